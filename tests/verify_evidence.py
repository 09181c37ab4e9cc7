"""A second verifier of evidence packs, written from the format (src/ledger/evidence/mod.rs) and nothing else.
Usage: verify_evidence.py PACK TRUST. Prints a verdict as JSON; exit code 0 when everything that must hold holds."""
import base64, hashlib, json, re, sys
from datetime import datetime, timezone
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, utils
from cryptography.hazmat.primitives.hashes import SHA256
KNOWN = re.compile("grant.(sealed|suggested|approved|denied|cancelled|lapsed)|approval.(received|withdrawn)|"
                   "lease.(intent|refused|unknown|minted|released|ended|recalled)|playbook.(signed|suspended)|"
                   "(?!(grant|approval|lease|playbook)[.])[a-z0-9._]+")
STEPS = dict(intent="new refused", refused="intent", unknown="intent", minted="intent", released="minted",
             ended="unknown minted released")
ANSWERS = {"approve": "approval.received", "deny": "grant.denied", "withdraw": "approval.withdrawn"}
OPTIONAL, FAILED = "run grant lease previous", {}

def need(check, holds, why):
    if not holds: FAILED.setdefault(check, []).append(str(why))
def stage(check, work, *args):  # What cannot be read does not hold.
    try: return work(*args)
    except Exception as error: need(check, False, repr(error))
def digest(raw): return spell(sha(raw))
def sha(raw): return hashlib.sha256(raw).digest()
def spell(raw): return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
def canonical(value): return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
def b64(text):
    raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    assert spell(raw) == text, "another spelling of base64url"
    return raw
def once(pairs):
    assert len(dict(pairs)) == len(pairs), "a member appears twice"
    return dict(pairs)
def plain(value, depth=0):  # Integers within 2^53-1, printable ASCII, at most 12 levels.
    bad = abs(value) >= 2**53 if isinstance(value, int) else isinstance(value, str) and re.search("[^ -~]", value)
    assert not bad and depth <= 12 and not isinstance(value, float), "not plain"
    inner = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []
    for one in inner: plain(one, depth + 1)
def strict(raw, most=65535):
    plain(value := json.loads(raw))
    assert len(raw) <= most and canonical(value) == raw, "too large, or not in the form of RFC 8785"
    return value
def closed(value, required, optional=""):
    must, names = set(required.split()), set(value)
    assert must <= names <= must | set(optional.split()), f"members {sorted(names)}"
    return value
def signed(jwk, message, signature):  # By this key, with the algorithm of its kind.
    try:
        if jwk["kty"] == "OKP": ed25519.Ed25519PublicKey.from_public_bytes(b64(jwk["x"])).verify(signature, message)
        else:
            halves = (int.from_bytes(signature[at:at + 32], "big") for at in (0, 32))
            point = ec.EllipticCurvePublicNumbers(*(int.from_bytes(b64(jwk[c]), "big") for c in "xy"), ec.SECP256R1())
            point.public_key().verify(utils.encode_dss_signature(*halves), message, ec.ECDSA(SHA256()))
        return len(signature) == 64
    except Exception: return False
def checkpoint(pack, trust):  # The size and root that the log signed; cosignatures beside it.
    text, _, under = b64(pack["checkpoint"]).decode().rpartition("\n\n")
    lines = [re.fullmatch("\u2014 (\\S+) (\\S+)", line).groups() for line in under.removesuffix("\n").split("\n")]
    lines = [(name, base64.b64decode(blob, validate=True)) for name, blob in lines]
    (origin, size, root), text = text.split("\n"), text.encode() + b"\n"
    def good(name, kind, key, message):
        key_id = sha(name.encode() + b"\n" + bytes([kind]) + key)[:4]
        found = [blob[4:] for signer, blob in lines if (signer, blob[:4]) == (name, key_id)]
        return [signed({"kty": "OKP", "x": spell(key)}, *message(one)) for one in found]
    own = good(origin, 1, b64(trust["log"]["key"]), lambda one: (text, one))
    def cosigned(one): return b"cosignature/v1\ntime %d\n" % int.from_bytes(one[:8], "big") + text, one[8:]
    need("checkpoint", re.fullmatch(re.escape(trust["log"]["name"]) + "/[1-9][0-9]*", origin), f"of another log, {origin}")
    need("checkpoint", own and all(own), "the log's key did not sign it")
    found = [good(vkey.split("+")[0], 4, base64.b64decode(vkey.split("+", 2)[2])[1:], cosigned) for vkey in trust["witnesses"]]
    need("witnesses", all(map(all, found)) and sum(map(bool, found)) >= trust["witnesses_needed"], "too few, or a wrong one")
    return int(size), base64.b64decode(root, validate=True)
def included(entry, size, root):
    node, place, last, good = sha(b"\0" + b64(entry["event"])), entry["index"], size - 1, entry["index"] < size
    for sibling in map(b64, entry["path"]):
        good = good and last > 0
        if place & 1 or place == last:
            node = sha(b"\1" + sibling + node)
            while place and not place & 1: place, last = place >> 1, last >> 1
        else: node = sha(b"\1" + node + sibling)
        place, last = place >> 1, last >> 1
    need("inclusion", good and last == 0 and node == root, f"entry {entry['index']}")
def satisfied(rule, approvals, trust):  # Distinct people fill every place of the rule.
    def fills(places, free):
        return not places or any(places[0] in trust["people"][one]["groups"] and fills(places[1:], free - {one}) for one in free)
    places = [group for group, count in rule["groups"].items() for _ in range(count)]
    return places and fills(places, {one["iss"] for one in approvals})

def approval(trust, docs, events, grant, token):  # Its receipt and claims; an exception when it does not count.
    head, body, signature = token.split(".")
    header, claims = (json.loads(b64(part), object_pairs_hook=once) for part in (head, body))
    (doc, raw), decision = docs[grant], docs[grant][0]["decision"]
    admin, who, time, rule = doc["type"] == "administration", doc.get("who", doc), doc["time"], decision["rule"]
    person, key = next((slug, key) for slug, one in trust["people"].items() for key in one["keys"]
                       if digest(canonical(key["jwk"])) == header["kid"])
    [(at, event)] = [(i, e) for i, e in events.items() if e.get("grant") == grant and e["type"] in ANSWERS.values()
                     and e["facts"]["jti"] == claims["jti"]]
    yes, until = claims["decision"] == "approve", time["approve_by" if admin else "claim_by"]
    closed(header, "typ alg kid"), closed(claims, "iss aud sub grant grant_id decision iat exp jti", "reason")
    facts = dict(token=digest(token.encode()), digest=digest(raw), key=header["kid"], custody=key["custody"])
    assert (header["typ"], header["alg"]) == ("approval+jwt", {"OKP": "EdDSA", "EC": "ES256"}[key["jwk"]["kty"]]), header
    assert signed(key["jwk"], f"{head}.{body}".encode(), b64(signature)), "signature"
    assert (claims["iss"], event["actor"], event["type"]) == (person, f"person:{person}", ANSWERS[claims["decision"]]), "whose"
    assert (claims["aud"], claims["grant_id"], claims["grant"]) == (doc["issuer"], grant, digest(raw)), "of another grant"
    assert claims["sub"] == ("administration" if admin else who["claiming_agent"]) and claims["exp"] == until, "sub or exp"
    assert abs(claims["iat"] - event["at"]) <= 60 and event["at"] < (time["approve_by"] if yes else until), "too late"
    assert yes != ("reason" in claims) and facts.items() <= event["facts"].items(), "its receipt says otherwise"
    if yes:
        agents = who["agents"] if admin else [who["proposing_agent"], who["claiming_agent"]]
        assert person not in [who["requester"], *decision.get("authors", []), *(trust["agents"][a] for a in agents)], "a party"
        assert key["custody"] in rule["custody"] and set(trust["people"][person]["groups"]) & set(rule["groups"]), "not theirs"
    return at, claims
def covers(sheet, grant, at):
    book, action, work = sheet["subject"]["playbook"], grant["action"], grant["time"]["work_seconds"]
    def inside(value, of):
        low, high = (of.get("integers", {}).get(bound) for bound in ("min", "max"))
        return value in of["values"] if "values" in of else isinstance(value, int) and low <= value <= high
    return (at < book["not_after"] and action["reversible"] and work <= book["work_seconds"]
            and (book["environment"], book["action"]) == (grant["environment"], action["type"])
            and set(action["parameters"]) == set(book["parameters"])
            and all(inside(value, book["parameters"][name]) for name, value in action["parameters"].items())
            and {grant["who"]["proposing_agent"], grant["who"]["claiming_agent"]} <= set(book["agents"]))

def use(trust, docs, events, tokens, i, event):  # One intent to mint for work, under the grant it names.
    (grant, raw), facts, at = docs[event["grant"]], event["facts"], event["at"]
    who, time, credential, decision = grant["who"], grant["time"], grant["credential"], grant["decision"]
    def about(grant, *kinds): return [n for n, e in events.items() if n < i and e.get("grant") == grant and e["type"] in kinds]
    def stepped(step, lease): return [n for n, e in events.items() if n < i and (e["type"], e.get("lease")) == (step, lease)]
    aws, autonomous = credential["provider"] == "aws", "playbook" in decision
    sheet = next((doc for doc, raw in docs.values() if digest(raw) == decision.get("playbook")), None)
    before = [(n, one) for n, one in tokens.get((sheet or grant)["id"], []) if n < i]
    counted = [one for n, one in before if one["decision"] == "approve" and one["jti"] in facts["approvals"] and not any(
        later > n and (other["decision"], other["iss"]) == ("withdraw", one["iss"]) for later, other in before)]
    approved = [events[n]["at"] for n in about(grant["id"], "grant.approved")]
    same = {"phase": "execute", "grant_digest": digest(raw), "key": who["claim_key"], "epoch": grant["epoch"],
            "provider": credential["provider"], "target": credential["role_arn" if aws else "audience"][:200]}
    undone = docs[time["inverse_of"]][0]["time"] if "inverse_of" in time else None
    own = {"grant": grant["id"], "digest": same["grant_digest"]}
    for holds in (all(facts.get(name) == value for name, value in same.items()),
                  (event["lease"], event["actor"]) == (time["lease"], f"agent:{who['claiming_agent']}"),
                  len(counted) == len(facts["approvals"]) and at < time["claim_by"],
                  not about(grant["id"], "grant.denied", "grant.cancelled", "grant.lapsed"),
                  not undone or (stepped("lease.released", undone["lease"]) and undone["inverse"] == own),
                  autonomous or (approved and at < approved[-1] + time["claim_seconds"]),
                  autonomous or satisfied(decision["rule"], counted, trust)):
        need("authority", holds, f"event {i}")
    if autonomous: need("playbooks", sheet and about(sheet["id"], "playbook.signed") and covers(sheet, grant, at)
                        and satisfied(sheet["decision"]["rule"], counted, trust), f"event {i}")
    until, policy = facts["not_after"], credential.get("session_policy", "")
    times = [f"{datetime.fromtimestamp(until + n, timezone.utc):%Y-%m-%dT%H:%M:%SZ}" for n in range(-120, 121)] if aws else []
    texts = [canonical({"lease": time["lease"], "credential": credential, "not_after": until})] * (not aws)
    texts += [policy.replace("{{not_after}}", stamp).encode() for stamp in times]
    need("sent", facts["sent"] in map(digest, texts) and policy.count("{{not_after}}") == aws, f"event {i}")
    need("deadline", at < until <= at + min(time["work_seconds"], credential["work_seconds"]) + 2, f"event {i}")
    earlier = about(grant["id"], "lease.intent")
    need("one_use", not earlier or any(n > earlier[-1] for n in stepped("lease.refused", time["lease"])), f"event {i}")

def verify(pack, trust):
    closed(pack, "version run issuer checkpoint entries texts grants administrations approvals")
    order = [closed(entry, "index event path")["index"] for entry in pack["entries"]]
    need("form", (pack["version"], trust["version"], pack["issuer"], order) == (1, 1, trust["issuer"], sorted(set(order))), order)
    size, root = stage("checkpoint", checkpoint, pack, trust) or (0, b"")
    events, docs, states, last, tokens = {}, {}, {}, None, {}
    for entry in pack["entries"]:
        stage("inclusion", included, entry, size, root)
        event = stage("events", lambda: closed(strict(b64(entry["event"])), "version type at actor facts texts", OPTIONAL))
        if event: events[entry["index"]] = event
        need("events", event and KNOWN.fullmatch(event["type"]) and event["version"] == 1, f"entry {entry['index']}")
    for i, event in ((i, e) for i, e in events.items() if "run" in e):
        follows = (event["run"], event.get("previous"), event["type"] == "run.opened") == (pack["run"], last, last is None)
        need("chain", follows, f"entry {i}")
        last = i
    need("chain", last is not None, "none")
    for n, text in enumerate(pack["texts"]):
        raw, name = b64(closed(text, "index name salt value")["salt"]) + b64(text["value"]), (text["index"], text["name"])
        twice = name in [(t["index"], t["name"]) for t in pack["texts"][:n]]
        need("texts", events.get(name[0], {"texts": {}})["texts"].get(name[1]) == digest(raw) and not twice, name)
    seals = [(e.get("grant"), e["facts"].get("digest")) for e in events.values() if re.search("sealed|suggested", e["type"])]
    for grant, raw in {**pack["grants"], **pack["administrations"]}.items():
        doc, _ = docs[grant] = stage("grants", strict, b64(raw)), b64(raw)
        need("grants", (doc["id"], doc["version"], doc["issuer"]) == (grant, 1, trust["issuer"])
             and (grant in pack["administrations"] or doc["who"]["run"] == pack["run"])
             and [d for g, d in seals if g == grant] == [digest(b64(raw))], f"{grant} is not what was sealed")
    need("grants", {grant for grant, _ in seals} == set(docs), "a grant is missing")
    for grant, token in ((grant, token) for grant, all_of in pack["approvals"].items() for token in all_of):
        found = stage("approvals", approval, trust, docs, events, grant, token)
        if found: tokens.setdefault(grant, []).append(found)
    received = sorted(at for all_of in tokens.values() for at, _ in all_of)
    need("approvals", received == [i for i, e in events.items() if e["type"] in ANSWERS.values()], "a token missing or twice")
    for i, event in events.items():
        kind, _, step = event["type"].partition(".")
        if kind == "lease" and step in STEPS:
            need("life", states.get(event["lease"], "new") in STEPS[step].split(), f"event {i}")
            states[event["lease"]] = step
        if event["type"] == "lease.intent" and (event["facts"]["phase"] == "execute" or "grant" in event):
            stage("authority", use, trust, docs, events, tokens, i, event)
if __name__ == "__main__":
    pack = {}
    try:
        pack, trust = (strict(open(path, "rb").read().removesuffix(b"\n"), most) for path, most in
                       zip(sys.argv[1:3], (16 * 2**20, 4 * 2**20), strict=True))
        verify(pack, trust)
    except Exception as error: need("form", False, repr(error))
    sys.exit(print(json.dumps({"ok": not FAILED, "run": pack.get("run"), "failed": FAILED})) or bool(FAILED))
