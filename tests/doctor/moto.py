"""Makes the account that Terraform would make, in moto: reads what is to be on standard input, prints keys of sessions."""
import json
import sys

import boto3

asked = json.load(sys.stdin)
clients = {}


def client(name, **keys):
    return boto3.client(name, endpoint_url=asked["endpoint"], region_name=asked["region"], **keys)


for service, call, arguments in asked["calls"]:
    if service not in clients:
        clients[service] = client(service, aws_access_key_id="AKIAADMIN", aws_secret_access_key="admin")
    getattr(clients[service], call)(**arguments)

sts = client("sts", aws_access_key_id="AKIAADMIN", aws_secret_access_key="admin")
sessions = {}
for profile, role in asked["sessions"].items():
    made = sts.assume_role(RoleArn=role, RoleSessionName="broker")["Credentials"]
    sessions[profile] = [made["AccessKeyId"], made["SecretAccessKey"], made["SessionToken"]]
json.dump(sessions, sys.stdout)
