"""Makes the account that Terraform would make, in moto: reads what is to be on standard input, prints keys of sessions."""
import json
import sys

import boto3

asked = json.load(sys.stdin)
clients = {}


def client(name, **keys):
    return boto3.client(name, endpoint_url=asked["endpoint"], region_name=asked["region"], **keys)


sts = client("sts", aws_access_key_id="AKIAADMIN", aws_secret_access_key="admin")


def administrator(account):
    """Keys of an administrator; in moto the account of a role is the account of its sessions."""
    if account is None:
        return {"aws_access_key_id": "AKIAADMIN", "aws_secret_access_key": "admin"}
    role = "arn:aws:iam::%s:role/admin" % account
    made = sts.assume_role(RoleArn=role, RoleSessionName="admin")["Credentials"]
    return {"aws_access_key_id": made["AccessKeyId"], "aws_secret_access_key": made["SecretAccessKey"],
            "aws_session_token": made["SessionToken"]}


for service, call, arguments, *account in asked["calls"]:
    place = (service, *account)
    if place not in clients:
        clients[place] = client(service, **administrator(account[0] if account else None))
    getattr(clients[place], call)(**arguments)

sessions = {}
for profile, role in asked["sessions"].items():
    made = sts.assume_role(RoleArn=role, RoleSessionName="broker")["Credentials"]
    sessions[profile] = [made["AccessKeyId"], made["SecretAccessKey"], made["SessionToken"]]
json.dump(sessions, sys.stdout)
