"""A second verifier of evidence packs, from the format in src/ledger/evidence/mod.rs alone: verify_evidence.py PACK TRUST."""
import base64, hashlib, json, re, sys, time as clock
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, utils; from cryptography.hazmat.primitives.hashes import SHA256
KNOWN = re.compile("(?!(grant|approval|lease|playbook)[.])[a-z0-9._]+|grant.(sealed|suggested|approved|denied|cancelled|lapsed)|"
    "approval.(received|withdrawn)|lease.(intent|refused|unknown|minted|released|ended|recalled)|playbook.(signed|suspended)")
STEPS = "(new|refused)>intent|intent>(refused|unknown|minted)|minted>released|(minted|unknown|released)>ended|.+>recalled"
ANSWERS, FAILED = {"approve": "approval.received", "deny": "grant.denied", "withdraw": "approval.withdrawn"}, {}
ENDED, SEALS = ("grant.denied", "grant.cancelled", "grant.lapsed"), ("grant.sealed", "grant.suggested", "administration.sealed")
DENY = dict(Effect="Deny", Action="*", Resource="*", Condition={"DateGreaterThanEquals": {"aws:CurrentTime": "{{not_after}}"}})
NAME = re.compile('{([a-z][a-z0-9_]{0,31})}|[*?${}"\\\\]')  # What a value stands for, and characters that none may hold.
def need(check, holds, why): holds or len(FAILED.setdefault(check, [])) >= 20 or FAILED[check].append(str(why))
def stage(check, work, *args):  # What cannot be read does not hold.
    try: return work(*args)
    except Exception as error: need(check, False, repr(error))
sha, spell = (lambda raw: hashlib.sha256(raw).digest()), (lambda raw: base64.urlsafe_b64encode(raw).rstrip(b"=").decode())
def compact(value, **order): return json.dumps(value, separators=(",", ":"), ensure_ascii=False, **order)
digest, canonical = (lambda raw: spell(sha(raw))), (lambda value: compact(value, sort_keys=True).encode())
def b64(text): return [raw := base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))][spell(raw) != text]  # In its one spelling.
def once(pairs): return dict(pairs) if len(dict(pairs)) == len(pairs) else {}  # No claims at all, when one is there twice.
def plain(value, depth=0):  # Integers within 2^53-1, printable ASCII, at most 12 levels.
    assert depth <= 12 and not (re.search("[^ -~]", value) if type(value) is str else type(value) is int and abs(value) >= 2**53)
    for one in [*value, *value.values()] if type(value) is dict else value if type(value) is list else []: plain(one, depth + 1)
def strict(raw, most=65535):  # In the form of RFC 8785; a number is not true or false.
    assert not re.search(rb'nary":[^t]|"(\w+_)?(version|index|at|previous|epoch|changes|uses|seconds|by|after|shards)":[tf]', raw)
    plain(it := json.loads(raw, parse_float=str, parse_constant=str)); return [it][len(raw) > most or canonical(it) != raw]
def closed(value, must, may=""): return [value][not {*must.split()} <= {*value} <= {*f"{must} {may}".split()}]  # Or an exception.
def signed(jwk, message, signature):  # By this key, with the algorithm of its kind.
    try: return not (ed25519.Ed25519PublicKey.from_public_bytes(b64(jwk["x"])).verify(signature, message) if jwk["kty"] == "OKP"
        else ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\4" + b64(jwk["x"]) + b64(jwk["y"])).verify(
            utils.encode_dss_signature(*map(int.from_bytes, (signature[:32], signature[32:]))), message, ec.ECDSA(SHA256())))
    except Exception: return False
def checkpoint(pack, trust):  # The size, root and epoch that the log signed; cosignatures beside it.
    text, _, under = b64(pack["checkpoint"]).decode().rpartition("\n\n"); origin, size, root = text.split("\n")
    lines = [(one[1], base64.b64decode(one[2], validate=True)) for one in (re.fullmatch("\u2014 (\\S+) (\\S+)", line)
        for line in under.removesuffix("\n").split("\n"))]; epoch, size = int(origin.rpartition("/")[2]), int(size)
    def good(name, kind, key, message): return [signed({"kty": "OKP", "x": spell(key)}, *message(raw[4:])) for who, raw in lines
        if (who, raw[:4]) == (name, sha(name.encode() + b"\n" + bytes([kind]) + key)[:4])]
    def cosigned(one): return f"cosignature/v1\ntime {int.from_bytes(one[:8], 'big')}\n{text}\n".encode(), one[8:]
    need("checkpoint", re.fullmatch(re.escape(trust["log"]["name"]) + "/[1-9][0-9]*", origin) and (own := [ok for k in
        [trust["log"], *trust["log"].get("former", [])] if epoch <= k.get("epoch", epoch) and size <= k.get("size", size)
        for ok in good(origin, 1, b64(k["key"]), lambda one: (f"{text}\n".encode(), one))]) and all(own), origin)
    found = [good(vkey.split("+")[0], 4, base64.b64decode(vkey.split("+", 2)[2])[1:], cosigned) for vkey in trust["witnesses"]]
    need("witnesses", all(map(all, found)) and sum(map(bool, found)) >= trust["witnesses_needed"], "too few, or a wrong one")
    return size, base64.b64decode(root, validate=True), epoch
def climb(node, index, size, path):  # The root over a leaf, by the hashes beside it, lowest first.
    if size == 1 and not path: return node
    at, (*rest, last) = 1 << (size - 1).bit_length() - 1, path
    return sha(b"\1" + (climb(node, index, at, rest) + last if index < at else last + climb(node, index - at, size - at, rest)))
def satisfied(rule, approvals, people):  # Distinct people fill every place of the rule.
    def fill(left, free): return not left or any(left[0] in people[p]["groups"] and fill(left[1:], free - {p}) for p in free)
    places = [group for group, count in rule["groups"].items() for _ in range(count)]
    return places and min(rule["groups"].values()) > 0 and fill(places, {one["iss"] for _, one in approvals})
def shape(doc):  # Nothing was signed that nobody reads.
    mint, why, basis = doc["type"] != "administration", doc["decision"], "id rule reasons policy catalog directory guardrails"
    closed(why, basis + " tier" * mint, "authors" + " playbook alert break_glass" * mint)
    times = "sealed_at approve_by nonce" + " lease claim_seconds claim_by work_seconds" * mint
    closed(doc["time"], times, "inverse inverse_of" * mint), closed(why["rule"], "groups custody", "separate_authors")
    if not mint: return closed(doc, "version type id epoch issuer decision time requester agents subject")
    closed(doc["who"], "run proposing_agent claiming_agent claim_key requester asked_in_person attestation")
    closed(doc["action"], "type service summary parameters unenforced class reversible changes exceptions preconditions",
           "rollback unscopable dependents plan_digest"), [closed(one, "name value") for one in doc["action"]["preconditions"]]
    key, of = doc["credential"], "role_arn account region session_name source_identity session_policy tags duration_seconds"
    of, more = (of, "external_id web_identity") if key["provider"] == "aws" else ("audience authorization_details", "")
    closed(key, f"provider work_seconds revocability {of}", more), closed(why.get("alert", {}), "", "source id key counts_until")
    "web_identity" in key and closed(key["web_identity"], "issuer audience")
    return closed(doc, "version type id epoch issuer decision time environment who action credential evidence")
def of(events, *kinds, **about): return [i for i, e in events.items() if e["type"] in kinds and about.items() <= e.items()]
def approval(trust, docs, events, grant, token):  # Its receipt and claims; an exception when it does not count.
    (head, body, signature), (doc, raw), people = token.split("."), docs[grant], trust["people"]; assert len(signature) == 86
    header, claims = (json.loads(b64(part), object_pairs_hook=once) for part in (head, body))
    admin, who, time, rule = doc["type"] == "administration", doc.get("who", doc), doc["time"], doc["decision"]["rule"]
    known = [(slug, key) for slug in people for key in people[slug]["keys"] if digest(canonical(key["jwk"])) == header["kid"]]
    [at] = [i for i in of(events, *ANSWERS.values(), grant=grant) if events[i]["facts"]["jti"] == claims["jti"]]
    (person, key), event, kind, yes = known[0], events[at], ANSWERS[claims["decision"]], claims["decision"] == "approve"
    sub, until = ("administration", time["approve_by"]) if admin else (who["claiming_agent"], time["claim_by"])
    said = dict(iss=person, aud=doc["issuer"], sub=sub, grant_id=grant, grant=digest(raw), exp=until)
    facts = dict(token=digest(token.encode()), digest=digest(raw), key=header["kid"], custody=key["custody"])
    assert header == dict(typ="approval+jwt", alg={"OKP": "EdDSA", "EC": "ES256"}[key["jwk"]["kty"]], kid=header["kid"]), header
    assert signed(key["jwk"], f"{head}.{body}".encode(), b64(signature)) and said.items() <= claims.items(), "of another"
    assert facts.items() <= event["facts"].items() and (event["actor"], event["type"]) == (f"person:{person}", kind), "receipt"
    assert abs(claims["iat"] - event["at"]) <= 60 and event["at"] < (time["approve_by"] if yes else until), "too late"
    owners = [trust["agents"][a] for a in (who["agents"] if admin else [who["proposing_agent"], who["claiming_agent"]]) if yes]
    assert not yes or person not in [who["requester"], *doc["decision"].get("authors", []), *owners], "a party"
    assert not yes or key["custody"] in rule["custody"] and {*people[person]["groups"]} & {*rule["groups"]}, "not theirs"
    return at, closed(claims, "iss aud sub grant grant_id decision iat exp jti" + " reason" * (not yes))
def covers(sheet, grant, at, uses):  # Whether a grant lies inside a playbook, which was not used up.
    book, action, who, given = sheet["subject"]["playbook"], grant["action"], grant["who"], grant["action"]["parameters"]
    def inside(of, it): return it in (of["values"] if "values" in of else range(of["integers"]["min"], 1 + of["integers"]["max"]))
    return (at < book["not_after"] and action["reversible"] and grant["time"]["work_seconds"] <= book["work_seconds"]
            and (book["environment"], book["action"], sheet["epoch"]) == (grant["environment"], action["type"], grant["epoch"])
            and {*given} == {*book["parameters"]} and all(inside(book["parameters"][name], given[name]) for name in given)
            and {who["proposing_agent"], who["claiming_agent"]} <= {*book["agents"]} <= {*sheet["agents"]}
            and len(uses) <= book["max_uses"] and sum(t > at - book["budget"]["seconds"] for t in uses) <= book["budget"]["uses"])
def gives(book, given, work, lease):  # What the template that people signed with a playbook decides of action and credential.
    whole, place, name = strict(book["template"].encode()), book["environment"], book["action"]
    half = closed(closed(whole, "environment action", "inverse")["action"], "name entry", "aws jwt")
    entry = closed(half["entry"], "summary provider class changes max_work_seconds environments parameters",
                   "service settles inverse rollback exceptions unscopable statements canary")
    assert (whole["environment"], half["name"]) == (place, name) and 1 <= work <= entry["max_work_seconds"], "of something else"
    assert all(type(it) in (str, int) and not NAME.search(str(it)) for it in given.values()), "more to IAM or JSON than itself"
    cloud, of, way = entry["provider"] == "aws", entry.get("statements", []), entry.get("inverse", dict(action="", parameters={}))
    aws = cloud and closed(half["aws"], "account region execute_role observe_role", "trust_role external_id protected shards")
    own = dict(account=aws["account"], region=aws["region"], partition=aws["execute_role"].split(":")[1]) if cloud else {}
    def fill(texts): return texts if texts == ["*"] else [NAME.sub(lambda hit: str({**given, **own}[hit[1]]), it) for it in texts]
    turn = {key: str(given[it[1:-1]] if re.fullmatch("{.*}", str(it)) else it) for key, it in way["parameters"].items()}
    turn = ", ".join(f"{key}={it}" if re.fullmatch("[A-Za-z0-9_.:/@+-]*", it) else f'{key}="{it}"' for key, it in turn.items())
    action = dict(zip(("service", "summary"), fill([entry.get("service", of[0]["actions"][0].split(":")[0] if cloud else name),
        entry["summary"]])), changes=entry["changes"], exceptions=entry.get("exceptions", []), **{"class": entry["class"]},
        rollback=entry.get("rollback", entry.get("settles", way["action"] + (turn and f" with {turn}") or None)),
        reversible="settles" in entry or "inverse" in entry, unscopable=sorted({*entry.get("unscopable", [])}) or None)
    if not cloud: return action, dict(provider="jwt", audience=closed(half["jwt"], "audience introspects")["audience"],
        authorization_details=[dict(type="phasebroker_action", action=name, environment=place, parameters=given)],
        revocability="immediate" if half["jwt"]["introspects"] else "at_expiry")
    def allow(actions, resources, conditions={}):
        asked = {kind: {key: fill(texts) for key, texts in keys.items()} for kind, keys in conditions.items()}
        return dict(Effect="Allow", Action=actions, Resource=fill(resources), **({"Condition": asked} if asked else {}))
    shard = int.from_bytes(sha(lease.encode())[:4], "big") % {n: n for n in range(1, 9)}[aws.get("shards", 1)]
    role = aws["trust_role"] if entry["class"] == "trust" else aws["execute_role"] + f"-{shard}" * (shard > 0)
    return action, dict({it: aws.get(it) for it in ("account", "region", "external_id")}, provider="aws", revocability="seconds",
        role_arn=role, session_policy=compact({"Version": "2012-10-17", "Statement": [*(allow(**one) for one in of),
            *[dict(Sid="Canary", **allow(["ec2:DescribeRegions"], ["*"]))] * ("canary" in entry), DENY]}))
def ends(grant, aws):  # A session that ends itself, by a policy of plain compact JSON and soon after, and names the grant.
    text, lease, policy, act = aws["session_policy"], grant["time"]["lease"], json.loads(aws["session_policy"]), grant["action"]
    tags = dict(lease=lease, phase="execute", agent=grant["who"]["claiming_agent"], grant=grant["id"])
    if "web_identity" in aws: tags |= {"action": act["type"], **{f"p_{name}": str(it) for name, it in act["parameters"].items()
                                                                 if f"p_{name}" in aws["tags"]}}
    named = dict(session_name=f"execute-{lease}", source_identity=grant["id"], duration_seconds=900, tags=tags)
    plainly, last = text.count("{{not_after}}") == 1 and len(compact(policy)) == len(text), policy["Statement"][-1]
    return plainly and DENY.items() <= last.items() and {*last} <= {*DENY, "Sid"} and named.items() <= aws.items()
def use(trust, docs, events, tokens, era, i, event):  # One intent to mint for work, under the grant it names.
    (grant, raw), facts, at, own = docs[event["grant"]], event["facts"], event["at"], dict(grant=event["grant"])
    who, time, credential, decision = grant["who"], grant["time"], grant["credential"], grant["decision"]
    def before(*kinds, **about): return [n for n in of(events, *kinds, **about) if n < i]
    aws, book, this = credential["provider"] == "aws", decision.get("playbook"), {"grant": grant["id"], "digest": digest(raw)}
    sheet = next((doc for doc, raw in docs.values() if digest(raw) == book), None)
    known = [(n, one) for n, one in tokens.get((sheet or grant)["id"], []) if n < i]
    counted = [(n, one) for n, one in known if one["decision"] == "approve" and one["jti"] in facts["approvals"] and not any(
        later > n and (other["decision"], other["iss"]) == ("withdraw", one["iss"]) for later, other in known)]
    complete = satisfied((sheet or grant)["decision"]["rule"], counted, trust["people"])
    steps = [(events[n]["type"], events[n]["at"]) for n in before(*ANSWERS.values(), "grant.approved", **own)]
    same = {"phase": "execute", "grant_digest": digest(raw), "key": who["claim_key"], "epoch": grant["epoch"],
            "provider": credential["provider"], "target": credential["role_arn" if aws else "audience"][:200]}
    done, until = docs[time["inverse_of"]][0]["time"] if "inverse_of" in time else None, facts["not_after"]
    need("authority", same.items() <= facts.items() and len(counted) == len(facts["approvals"]) and not before("run.closed")
         and (event["lease"], event["actor"]) == (time["lease"], f"agent:{who['claiming_agent']}") and not before(*ENDED, **own)
         and max([time["sealed_at"], *(events[n]["at"] for n, _ in counted)]) <= at < time["claim_by"]
         and (not done or (before("lease.released", lease=done["lease"]) and done["inverse"] == this))
         and (book or ([kind for kind, _ in steps].index("grant.approved") == len(steps) - 1 and complete
              and steps[-2] == ("approval.received", steps[-1][1]) and steps[-1][1] > at - time["claim_seconds"])), f"event {i}")
    need("epochs", all(era(n) == it["epoch"] for it in (grant, sheet) if it for n in (i, *before(*SEALS, grant=it["id"]))), i)
    spent = [e["at"] for n, e in events.items() if n <= i and e["type"] == "lease.intent" and "grant" in e and book == docs[
        e["grant"]][0]["decision"].get("playbook") and not any(m > n for m in of(events, "lease.refused", lease=e["lease"]))]
    if book: need("playbooks", sheet and complete and before("playbook.signed", grant=sheet["id"])
                        and not before("playbook.suspended", *ENDED, grant=sheet["id"]) and covers(sheet, grant, at, spent), i)
    asked = sheet and (sheet["subject"]["playbook"], grant["action"]["parameters"], credential["work_seconds"], time["lease"])
    for part, want in zip((grant["action"], credential), sheet and stage("playbooks", gives, *asked) or ()):
        need("playbooks", all(canonical(part.get(one)) == canonical(it) for one, it in want.items()), f"{i} is not as signed")
    texts = [canonical({"lease": time["lease"], "credential": credential, "not_after": until})] * (not aws)
    texts += [credential["session_policy"].replace("{{not_after}}", clock.strftime("%FT%TZ", clock.gmtime(until + n))).encode()
              for n in range(-120, 121) if aws and 0 <= until + n < 253402300800]
    need("sent", facts["sent"] in map(digest, texts) and (not aws or ends(grant, credential)), f"event {i}")
    need("deadline", at < until <= at + min(time["work_seconds"], credential["work_seconds"]) + 2, f"event {i}")
    need("one_use", max([0, *before("lease.intent", **own)]) <= max([0, *before("lease.refused", lease=time["lease"])]), i)
def verify(pack, trust):
    closed(pack, "version run issuer checkpoint entries texts grants administrations approvals")
    order = [closed(entry, "index event path")["index"] for entry in pack["entries"]]
    need("form", (pack["version"], trust["version"], pack["issuer"], order) == (1, 1, trust["issuer"], sorted({*order})), order)
    admin, documents = pack["administrations"], {**pack["grants"], **pack["administrations"]}
    assert all(len(part) <= 10000 for part in (order, pack["texts"], documents, sum(pack["approvals"].values(), []))), "too many"
    size, root, epoch = stage("checkpoint", checkpoint, pack, trust) or (0, b"", 2**63); named, states = set(), {}
    events, docs, tokens, must, may = {}, {}, {}, "version type at actor facts texts", "run grant lease previous"
    def led(e): return climb(sha(b"\0" + b64(e["event"])), e["index"], size, [*map(b64, e["path"])])
    for entry in pack["entries"]:
        need("inclusion", entry["index"] < size and stage("inclusion", led, entry) == root, f"entry {entry['index']}")
        if event := stage("events", lambda: closed(strict(b64(entry["event"])), must, may)): events[entry["index"]] = event
        need("events", event and KNOWN.fullmatch(event["type"]) and event["version"] == 1, f"entry {entry['index']}")
    run, last, own = [e for e in events.values() if "run" in e], None, pack["run"]; need("chain", run, "none")
    for i, e in events.items():  # Without a run it is of a playbook, or ends an epoch.
        if "run" not in e: need("chain", "lease" not in e and e.get("grant", (e["type"],)) in [*admin, ("store.fenced",)], i)
        else: need("chain", (e["run"], e.get("previous"), e["type"] == "run.opened") == (own, last, last is None), i); last = i
    fences = [(i, events[i]["facts"].get("old_epoch", 0), events[i]["facts"].get("epoch", 0)) for i in of(events, "store.fenced")]
    need("epochs", all(0 < old < new == then for (_, old, new), (_, then, _) in zip(fences, [*fences[1:], (0, epoch, 0)])), epoch)
    def era(n): return next((old for i, old, _ in fences if i > n), epoch)
    for text in pack["texts"]:
        salt, name = b64(closed(text, "index name salt value")["salt"]), (text["index"], text["name"])
        bound = events.get(name[0], {"texts": {}})["texts"].get(name[1]) == digest(salt + b64(text["value"]))
        need("texts", bound and len(salt) == 16 and name not in named, name), named.add(name)
    seals = [(events[i].get("grant"), events[i]["facts"].get("digest")) for i in of(events, *SEALS)]
    first = run[0]["run"], *(run[0]["facts"].get(name) for name in ("requester", "environment"))
    for grant, raw in documents.items():
        doc, _ = docs[grant] = stage("grants", lambda: shape(strict(b64(raw)))), b64(raw)
        need("grants", (doc["id"], doc["version"], doc["issuer"]) == (grant, 1, trust["issuer"])
             and (grant in admin or (doc["who"]["run"], doc["who"]["requester"], doc["environment"]) == first)
             and [d for g, d in seals if g == grant] == [digest(b64(raw))], f"{grant} is not what was sealed")
    need("grants", {grant for grant, _ in seals} == {*docs}, "a grant is missing")
    for grant, token in ((grant, token) for grant, all_of in pack["approvals"].items() for token in all_of):
        if found := stage("approvals", approval, trust, docs, events, grant, token): tokens.setdefault(grant, []).append(found)
    need("approvals", sorted(at for some in tokens.values() for at, _ in some) == of(events, *ANSWERS.values()), "missing")
    for i, event in events.items():
        (kind, _, step), lease = event["type"].partition("."), event.get("lease")
        if kind == "lease": need("life", lease and re.fullmatch(STEPS, f"{states.get(lease, 'new')}>{step}"), f"event {i}")
        if kind == "lease" and step != "recalled": states[lease] = step
        if kind in ("reconciled", "incident"):
            need("life", states.get(lease, "intent") not in ("intent", "refused"), f"event {i}")
        if step in ("seen", "unseen"): need("life", states.get(lease) == "ended" and event["facts"].get(
            "denied_at", event["at"] + (step == "seen")) <= event["at"], f"event {i}")  # What a canary saw.
        if event["type"] == "lease.intent" and (event["facts"].get("phase") not in ("observe", "decide") or "grant" in event):
            stage("authority", use, trust, docs, events, tokens, era, i, event)
pack, trust = (stage("form", lambda: strict(open(path, "rb").read().removesuffix(b"\n"), 2**24)) or {} for path in sys.argv[1:])
stage("form", verify, pack, trust); print(json.dumps({"ok": not FAILED, "failed": FAILED})); sys.exit(bool(FAILED))
