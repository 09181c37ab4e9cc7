"""A second verifier of evidence packs, written from the format (src/ledger/evidence/mod.rs) and nothing else.
Usage: verify_evidence.py PACK TRUST. Prints a verdict as JSON; exit code 0 when everything that must hold holds."""
import base64, hashlib, json, re, sys, time as clock
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, utils
from cryptography.hazmat.primitives.hashes import SHA256
KNOWN = re.compile("grant.(sealed|suggested|approved|denied|cancelled|lapsed)|approval.(received|withdrawn)|playbook.(signed|"
                   "suspended)|lease.(intent|refused|unknown|minted|released|ended|recalled)|(?!(grant|approval|lease|playbook)[.])[a-z0-9._]+")
STEPS = "(new|refused)>intent|intent>(refused|unknown|minted)|minted>released|(minted|unknown|released)>ended|.+>recalled"
ANSWERS = {"approve": "approval.received", "deny": "grant.denied", "withdraw": "approval.withdrawn"}
ENDED, SEALS = ("grant.denied", "grant.cancelled", "grant.lapsed"), ("grant.sealed", "grant.suggested", "administration.sealed")
DENY = dict(Effect="Deny", Action="*", Resource="*", Condition={"DateGreaterThanEquals": {"aws:CurrentTime": "{{not_after}}"}})
FAILED = {}
def need(check, holds, why):
    if not holds and len(FAILED.setdefault(check, [])) < 20: FAILED[check].append(str(why))
def stage(check, work, *args):  # What cannot be read does not hold.
    try: return work(*args)
    except Exception as error: need(check, False, repr(error))
def sha(raw): return hashlib.sha256(raw).digest()
def spell(raw): return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
def digest(raw): return spell(sha(raw))
def compact(value, **order): return json.dumps(value, separators=(",", ":"), ensure_ascii=False, **order)
def canonical(value): return compact(value, sort_keys=True).encode()
def b64(text):
    assert spell(raw := base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))) == text, "another spelling"; return raw
def once(pairs): return dict(pairs) if len(dict(pairs)) == len(pairs) else {}  # No claims at all, when one is there twice.
def plain(value, depth=0):  # Integers within 2^53-1, printable ASCII, at most 12 levels.
    assert depth <= 12 and type(value) is not float and (type(value) is not int or abs(value) < 2**53), "no such number, or too deep"
    assert type(value) is not str or re.fullmatch("[ -~]*", value), "not printable ASCII"
    for one in [*value, *value.values()] if type(value) is dict else value if type(value) is list else []: plain(one, depth + 1)
def strict(raw, most=65535):
    plain(value := json.loads(raw))
    assert len(raw) <= most and canonical(value) == raw, "too large, or not in the form of RFC 8785"; return value
def closed(value, must, may=""):
    assert {*must.split()} <= {*value} <= {*f"{must} {may}".split()}, f"members {sorted(value)}"; return value
def signed(jwk, message, signature):  # By this key, with the algorithm of its kind.
    try:
        if jwk["kty"] == "OKP": ed25519.Ed25519PublicKey.from_public_bytes(b64(jwk["x"])).verify(signature, message)
        else: ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\4" + b64(jwk["x"]) + b64(jwk["y"])).verify(
            utils.encode_dss_signature(*(int.from_bytes(signature[n:n + 32], "big") for n in (0, 32))), message, ec.ECDSA(SHA256()))
        return len(signature) == 64
    except Exception: return False
def checkpoint(pack, trust):  # The size, root and epoch that the log signed; cosignatures beside it.
    text, _, under = b64(pack["checkpoint"]).decode().rpartition("\n\n")
    lines = [re.fullmatch("\u2014 (\\S+) (\\S+)", line).groups() for line in under.removesuffix("\n").split("\n")]
    lines, (origin, size, root) = [(name, base64.b64decode(blob, validate=True)) for name, blob in lines], text.split("\n")
    def good(name, kind, key, message):
        found = [raw[4:] for who, raw in lines if (who, raw[:4]) == (name, sha(name.encode() + b"\n" + bytes([kind]) + key)[:4])]
        return [signed({"kty": "OKP", "x": spell(key)}, *message(one)) for one in found]
    def cosigned(one): return f"cosignature/v1\ntime {int.from_bytes(one[:8], 'big')}\n{text}\n".encode(), one[8:]
    own = good(origin, 1, b64(trust["log"]["key"]), lambda one: (f"{text}\n".encode(), one))
    need("checkpoint", own and all(own) and re.fullmatch(re.escape(trust["log"]["name"]) + "/[1-9][0-9]*", origin), origin)
    found = [good(vkey.split("+")[0], 4, base64.b64decode(vkey.split("+", 2)[2])[1:], cosigned) for vkey in trust["witnesses"]]
    need("witnesses", all(map(all, found)) and sum(map(bool, found)) >= trust["witnesses_needed"], "too few, or a wrong one")
    return int(size), base64.b64decode(root, validate=True), int(origin.rpartition("/")[2])
def climb(node, index, size, path):  # The root over a leaf, by the hashes beside it, lowest first.
    if size == 1 and not path: return node
    left = 1 << (size - 1).bit_length() - 1
    if index < left: return sha(b"\1" + climb(node, index, left, path[:-1]) + path[-1])
    return sha(b"\1" + path[-1] + climb(node, index - left, size - left, path[:-1]))
def included(entry, size, root):
    leaf, index, path = sha(b"\0" + b64(entry["event"])), entry["index"], [*map(b64, entry["path"])]
    need("inclusion", index < size and climb(leaf, index, size, path) == root, f"entry {index}")
def satisfied(rule, approvals, trust):  # Distinct people fill every place of the rule.
    def fills(places, free):
        return not places or any(places[0] in trust["people"][one]["groups"] and fills(places[1:], free - {one}) for one in free)
    places = [group for group, count in rule["groups"].items() for _ in range(count)]
    return places and min(rule["groups"].values()) > 0 and fills(places, {one["iss"] for _, one in approvals})
def shape(doc):  # Nothing was signed that nobody reads.
    mint, decision = doc["type"] != "administration", doc["decision"]
    of = "environment who action credential evidence" if mint else "requester agents subject"
    more = (" tier" * mint, " playbook alert break_glass" * mint)
    closed(decision, "id rule reasons policy catalog directory guardrails" + more[0], "authors" + more[1])
    times = "sealed_at approve_by nonce" + " lease claim_seconds claim_by work_seconds" * mint
    closed(doc["time"], times, "inverse inverse_of" * mint), closed(decision["rule"], "groups custody", "separate_authors")
    if mint: closed(doc["who"], "run proposing_agent claiming_agent claim_key requester asked_in_person attestation")
    return closed(doc, f"version type id epoch issuer decision time {of}")
def of(events, *kinds, **about): return [i for i, e in events.items() if e["type"] in kinds and about.items() <= e.items()]
def approval(trust, docs, events, grant, token):  # Its receipt and claims; an exception when it does not count.
    (head, body, signature), (doc, raw), people = token.split("."), docs[grant], trust["people"]
    header, claims = (json.loads(b64(part), object_pairs_hook=once) for part in (head, body))
    admin, who, time, rule = doc["type"] == "administration", doc.get("who", doc), doc["time"], doc["decision"]["rule"]
    known = [(slug, key) for slug in people for key in people[slug]["keys"] if digest(canonical(key["jwk"])) == header["kid"]]
    [at], (person, key) = [i for i in of(events, *ANSWERS.values(), grant=grant) if events[i]["facts"]["jti"] == claims["jti"]], known[0]
    event, yes, until = events[at], claims["decision"] == "approve", time["approve_by" if admin else "claim_by"]
    closed(header, "typ alg kid"), closed(claims, "iss aud sub grant grant_id decision iat exp jti", "reason")
    alg, sub = {"OKP": "EdDSA", "EC": "ES256"}[key["jwk"]["kty"]], "administration" if admin else who["claiming_agent"]
    said = dict(iss=person, aud=doc["issuer"], sub=sub, grant_id=grant, grant=digest(raw), exp=until)
    facts = dict(token=digest(token.encode()), digest=digest(raw), key=header["kid"], custody=key["custody"])
    assert (header["typ"], header["alg"]) == ("approval+jwt", alg) and signed(key["jwk"], f"{head}.{body}".encode(), b64(signature))
    assert said.items() <= claims.items() and yes != ("reason" in claims), "of another person or grant"
    assert facts.items() <= event["facts"].items() and event["actor"] == f"person:{person}", "its receipt says otherwise"
    assert event["type"] == ANSWERS[claims["decision"]] and abs(claims["iat"] - event["at"]) <= 60, "another answer or time"
    owners = [trust["agents"][a] for a in (who["agents"] if admin else [who["proposing_agent"], who["claiming_agent"]]) if yes]
    assert event["at"] < (time["approve_by"] if yes else until), "too late"
    assert not yes or person not in [who["requester"], *doc["decision"].get("authors", []), *owners], "a party"
    assert not yes or key["custody"] in rule["custody"] and {*people[person]["groups"]} & {*rule["groups"]}, "not theirs"
    return at, claims
def covers(sheet, grant, at, spent):  # Whether a grant lies inside a playbook, which was not used up.
    book, given, who = sheet["subject"]["playbook"], grant["action"]["parameters"], grant["who"]
    def inside(one, of): return one in (of["values"] if "values" in of else range(of["integers"]["min"], of["integers"]["max"] + 1))
    return (at < book["not_after"] and grant["action"]["reversible"] and grant["time"]["work_seconds"] <= book["work_seconds"]
            and (book["environment"], book["action"], sheet["epoch"]) == (grant["environment"], grant["action"]["type"], grant["epoch"])
            and {*given} == {*book["parameters"]} and all(inside(given[name], book["parameters"][name]) for name in given)
            and {who["proposing_agent"], who["claiming_agent"]} <= {*book["agents"]} <= {*sheet["agents"]}
            and len(spent) <= book["max_uses"] and sum(t > at - book["budget"]["seconds"] for t in spent) <= book["budget"]["uses"])
def compiled(book, grant):  # The action and credential that the signed template gives; what it only tells is the action's own.
    whole, given, name = strict(book["template"].encode()), grant["action"]["parameters"], book["action"]
    half = closed(closed(whole, "environment action", "inverse")["action"], "name entry", "aws jwt")
    entry = closed(half["entry"], "summary provider class changes max_work_seconds environments parameters",
                   "service settles inverse rollback exceptions unscopable statements")
    found = (whole["environment"], half["name"], {*given})
    assert found == (book["environment"], name, {*entry["parameters"]}), "of another action, place or parameters"
    work = min(grant["credential"]["work_seconds"], entry["max_work_seconds"])
    action = dict(grant["action"], **{member: entry[member] for member in ("class", "changes")}, type=name,
                  reversible="settles" in entry or "inverse" in entry, exceptions=entry.get("exceptions", []))
    if entry["provider"] == "jwt":
        jwt = closed(half["jwt"], "audience introspects")
        only = dict(type="phasebroker_action", action=name, environment=book["environment"], parameters=given)
        return action, dict(provider="jwt", audience=jwt["audience"], authorization_details=[only], work_seconds=work,
                            revocability="immediate" if jwt["introspects"] else "at_expiry")
    aws = closed(half["aws"], "account region execute_role observe_role", "trust_role external_id protected")
    values = {**given, **aws, "partition": aws["execute_role"].split(":")[1]}
    def fill(part): return json.loads(re.sub("{([a-z][a-z0-9_]*)}", lambda word: str(values[word[1]]), compact(part)))
    allow = [dict(Effect="Allow", Action=one["actions"], Resource=fill(one["resources"]), **{"Condition": fill(one[key]) for key in
             closed(one, "actions resources", "conditions") if key == "conditions"}) for one in entry["statements"]]
    return action, {**{key: aws[key] for key in ("account", "region", "external_id") if key in aws}, **session(grant),
        "provider": "aws", "role_arn": aws["trust_role" if entry["class"] == "trust" else "execute_role"], "work_seconds": work,
        "session_policy": compact({"Version": "2012-10-17", "Statement": [*allow, DENY]}), "revocability": "seconds"}
def session(grant):  # What names the grant at AWS, and how long it lasts there.
    lease, agent = grant["time"]["lease"], grant["who"]["claiming_agent"]
    return dict(session_name=f"execute-{lease}", source_identity=grant["id"], duration_seconds=900,
                tags=dict(lease=lease, phase="execute", agent=agent, grant=grant["id"]))
def ends(text):  # A policy of plain compact JSON, which ends itself.
    last, own = (policy := json.loads(text))["Statement"][-1], text.count("{{not_after}}") == 1 and len(compact(policy)) == len(text)
    return own and DENY.items() <= last.items() and {*last} <= {*DENY, "Sid"}
def use(trust, docs, events, tokens, in_force, i, event):  # One intent to mint for work, under the grant it names.
    (grant, raw), facts, at = docs[event["grant"]], event["facts"], event["at"]
    who, time, credential, decision = grant["who"], grant["time"], grant["credential"], grant["decision"]
    def before(*kinds, **about): return [n for n in of(events, *kinds, **about) if n < i]
    aws, autonomous, this = credential["provider"] == "aws", "playbook" in decision, {"grant": grant["id"], "digest": digest(raw)}
    sheet = next((doc for doc, raw in docs.values() if digest(raw) == decision.get("playbook")), None)
    known = [(n, one) for n, one in tokens.get((sheet or grant)["id"], []) if n < i]
    counted = [(n, one) for n, one in known if one["decision"] == "approve" and one["jti"] in facts["approvals"] and not any(
        later > n and (other["decision"], other["iss"]) == ("withdraw", one["iss"]) for later, other in known)]
    complete = satisfied((sheet or grant)["decision"]["rule"], counted, trust)
    steps = [events[n] for n in before("approval.received", "approval.withdrawn", "grant.approved", grant=grant["id"])]
    steps, dates = [e["type"] for e in steps], [e["at"] for e in steps]
    same = {"phase": "execute", "grant_digest": digest(raw), "key": who["claim_key"], "epoch": grant["epoch"],
            "provider": credential["provider"], "target": credential["role_arn" if aws else "audience"][:200]}
    done = docs[time["inverse_of"]][0]["time"] if "inverse_of" in time else None
    need("authority", same.items() <= facts.items() and len(counted) == len(facts["approvals"]) and at < time["claim_by"]
         and (event["lease"], event["actor"]) == (time["lease"], f"agent:{who['claiming_agent']}")
         and max([time["sealed_at"], *(events[n]["at"] for n, _ in counted)]) <= at
         and not before(*ENDED, grant=grant["id"]) and not before("run.closed")
         and (not done or (before("lease.released", lease=done["lease"]) and done["inverse"] == this))
         and (autonomous or (steps.index("grant.approved") == len(steps) - 1 and steps[-2] == "approval.received"
                             and dates[-2] == dates[-1] > at - time["claim_seconds"] and complete)), f"event {i}")
    rests = [(doc, n) for doc in (grant, sheet) if doc for n in (i, *before(*SEALS, "playbook.signed", grant=doc["id"]))]
    need("epochs", all(in_force(n) == doc["epoch"] for doc, n in rests), f"event {i}")
    spent = [n for n in of(events, "lease.intent") if n <= i and events[n]["facts"].get("phase") == "execute"
             and docs[events[n]["grant"]][0]["decision"].get("playbook") == decision.get("playbook")]
    spent = [events[n]["at"] for n in spent if not any(m > n for m in of(events, "lease.refused", lease=events[n]["lease"]))]
    if autonomous: need("playbooks", sheet and complete and before("playbook.signed", grant=sheet["id"])
                        and not before("playbook.suspended", *ENDED, grant=sheet["id"]) and covers(sheet, grant, at, spent), f"event {i}")
    gives = sheet and stage("playbooks", compiled, sheet["subject"]["playbook"], grant)
    need("playbooks", not gives or canonical(gives) == canonical((grant["action"], credential)), f"event {i}: not as signed")
    until, policy = facts["not_after"], credential.get("session_policy", "")
    texts = [canonical({"lease": time["lease"], "credential": credential, "not_after": until})] * (not aws)
    texts += [policy.replace("{{not_after}}", clock.strftime("%Y-%m-%dT%H:%M:%SZ", clock.gmtime(until + n))).encode()
              for n in range(-120, 121) if aws and 0 <= until + n < 253402300800]
    own = not aws or ends(policy) and session(grant).items() <= credential.items()
    need("sent", facts["sent"] in map(digest, texts) and own, f"event {i}")
    need("deadline", at < until <= at + min(time["work_seconds"], credential["work_seconds"]) + 2, f"event {i}")
    refused = of(events, "lease.refused", lease=time["lease"])
    need("one_use", all(any(n < m < i for m in refused) for n in before("lease.intent", grant=grant["id"])), f"event {i}")
def verify(pack, trust):
    closed(pack, "version run issuer checkpoint entries texts grants administrations approvals")
    order = [closed(entry, "index event path")["index"] for entry in pack["entries"]]
    need("form", (pack["version"], trust["version"], pack["issuer"], order) == (1, 1, trust["issuer"], sorted({*order})), order)
    parts = pack["texts"], sum(pack["approvals"].values(), []), [*pack["grants"], *pack["administrations"]], order
    assert all(len(part) <= 10000 for part in parts), "too many"
    size, root, epoch = stage("checkpoint", checkpoint, pack, trust) or (0, b"", 2**63)
    events, docs, states, tokens, named, admin = {}, {}, {}, {}, set(), pack["administrations"]
    members = "version type at actor facts texts", "run grant lease previous"
    for entry in pack["entries"]:
        stage("inclusion", included, entry, size, root)
        if event := stage("events", lambda: closed(strict(b64(entry["event"])), *members)): events[entry["index"]] = event
        need("events", event and KNOWN.fullmatch(event["type"]) and event["version"] == 1, f"entry {entry['index']}")
    run = [i for i, event in events.items() if "run" in event]; need("chain", run, "none")
    for i, last in zip(run, [None, *run]):
        follows = (events[i]["run"], events[i].get("previous"), events[i]["type"] == "run.opened")
        need("chain", follows == (pack["run"], last, last is None), f"entry {i}")
    for i in {*events} - {*run}:
        belongs = events[i]["grant"] in admin if "grant" in events[i] else events[i]["type"] == "store.fenced"
        need("chain", belongs and "lease" not in events[i], f"entry {i}")
    fences = [(i, events[i]["facts"].get("old_epoch", 0), events[i]["facts"].get("epoch", 0)) for i in of(events, "store.fenced")]
    links = [*fences, (None, epoch, epoch + 1)]  # Each ends what the one before it began, and the last begins the origin's epoch.
    need("epochs", all(0 < old < new == then for (_, old, new), (_, then, _) in zip(links, links[1:])), fences)
    def in_force(n): return next((old for i, old, _ in fences if i > n), epoch)
    for text in pack["texts"]:
        salt, name = b64(closed(text, "index name salt value")["salt"]), (text["index"], text["name"])
        bound = events.get(name[0], {"texts": {}})["texts"].get(name[1]) == digest(salt + b64(text["value"]))
        need("texts", bound and len(salt) == 16 and name not in named, name), named.add(name)
    seals = [(events[i].get("grant"), events[i]["facts"].get("digest")) for i in of(events, *SEALS)]
    first = events[run[0]]["run"], *(events[run[0]]["facts"].get(name) for name in ("requester", "environment"))
    for grant, raw in {**pack["grants"], **admin}.items():
        doc, _ = docs[grant] = stage("grants", lambda: shape(strict(b64(raw)))), b64(raw)
        need("grants", (doc["id"], doc["version"], doc["issuer"]) == (grant, 1, trust["issuer"])
             and (grant in admin or (doc["who"]["run"], doc["who"]["requester"], doc["environment"]) == first)
             and [d for g, d in seals if g == grant] == [digest(b64(raw))], f"{grant} is not what was sealed")
    need("grants", {grant for grant, _ in seals} == {*docs}, "a grant is missing")
    for grant, token in ((grant, token) for grant, all_of in pack["approvals"].items() for token in all_of):
        if found := stage("approvals", approval, trust, docs, events, grant, token): tokens.setdefault(grant, []).append(found)
    received = sorted(at for all_of in tokens.values() for at, _ in all_of)
    need("approvals", received == of(events, *ANSWERS.values()), "a token missing or twice")
    for i, event in events.items():
        (kind, _, step), lease = event["type"].partition("."), event.get("lease")
        if kind == "lease": need("life", lease and re.fullmatch(STEPS, f"{states.get(lease, 'new')}>{step}"), f"event {i}")
        if kind == "lease" and step != "recalled": states[lease] = step
        if event["type"] == "lease.intent" and (event["facts"].get("phase") not in ("observe", "decide") or "grant" in event):
            stage("authority", use, trust, docs, events, tokens, in_force, i, event)
if __name__ == "__main__":
    def load(path, most): return strict(open(path, "rb").read().removesuffix(b"\n"), most)
    pack, trust = stage("form", load, sys.argv[1], 16 * 2**20) or {}, stage("form", load, sys.argv[2], 4 * 2**20)
    stage("form", verify, pack, trust)
    sys.exit(print(json.dumps({"ok": not FAILED, "run": pack.get("run"), "failed": FAILED})) or bool(FAILED))
