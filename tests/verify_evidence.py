#!/usr/bin/env python3
"""A second verifier of evidence packs, written from the format (src/ledger/evidence/mod.rs) and nothing else.
Usage: verify_evidence.py PACK TRUST. Prints a verdict as JSON; exit code 0 when everything that must hold holds."""
import base64, hashlib, json, re, sys
from datetime import datetime, timezone
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, utils
from cryptography.hazmat.primitives.hashes import SHA256

KINDS = set("""broker.started store.fenced rules.changed run.opened run.closed phase.entered grant.sealed grant.approved
approval.received grant.denied approval.withdrawn grant.cancelled grant.lapsed grant.suggested lease.intent lease.refused
lease.unknown lease.minted lease.released lease.ended lease.recalled revocation.done revocation.failed
revocation.outlived refused stopped frozen unfrozen administration.sealed playbook.signed playbook.suspended
review.opened review.accepted review.rejected review.overdue observation.recorded break_glass.asked
break_glass.used""".split())
STEPS = {"intent": {None, "refused"}, "refused": {"intent"}, "unknown": {"intent"}, "minted": {"intent"},
         "released": {"minted"}, "ended": {"unknown", "minted", "released"}}
ANSWERS = {"approve": "approval.received", "deny": "grant.denied", "withdraw": "approval.withdrawn"}
FAILED = {}

def need(check, holds, why):
    if not holds: FAILED.setdefault(check, []).append(why)
    return bool(holds)

def sha(raw): return hashlib.sha256(raw).digest()
def spell(raw): return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
def digest(raw): return spell(sha(raw))
def stamp(seconds): return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
def canonical(value): return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

def b64(text):
    raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if spell(raw) != text: raise ValueError("another spelling of base64url")
    return raw

def once(pairs):
    if len(dict(pairs)) != len(pairs): raise ValueError("a member appears twice")
    return dict(pairs)

def plain(value, depth=0):
    """Integers within 2^53-1, printable ASCII, at most 12 levels."""
    if depth > 12 or isinstance(value, float): raise ValueError("a fraction, or too deep")
    if isinstance(value, int) and abs(value) >= 2**53: raise ValueError("a number beyond 2^53-1")
    if isinstance(value, str) and not re.fullmatch("[ -~]*", value): raise ValueError("not printable ASCII")
    for one in (value if isinstance(value, list) else [*value, *value.values()] if isinstance(value, dict) else []):
        plain(one, depth + 1)

def strict(raw, most=65535):
    value = json.loads(raw, object_pairs_hook=once)
    plain(value)
    if len(raw) > most or canonical(value) != raw: raise ValueError("too large, or not in the form of RFC 8785")
    return value

def closed(value, required, optional=""):
    names, must = set(value), set(required.split())
    if must - names or names - must - set(optional.split()): raise ValueError(f"members {sorted(names)}")
    return value

def signed(jwk, message, signature):
    """Whether the key, with the algorithm of its kind, made the 64 bytes."""
    x = b64(jwk["x"])
    try:
        if jwk["kty"] == "OKP": ed25519.Ed25519PublicKey.from_public_bytes(x).verify(signature, message)
        else:
            r, s = (int.from_bytes(signature[i:i + 32], "big") for i in (0, 32))
            key = ec.EllipticCurvePublicNumbers(*(int.from_bytes(b64(jwk[c]), "big") for c in "xy"), ec.SECP256R1())
            key.public_key().verify(utils.encode_dss_signature(r, s), message, ec.ECDSA(SHA256()))
        return len(signature) == 64
    except InvalidSignature: return False

def log(pack, trust):
    """Checkpoint, cosignatures and inclusion."""
    text, _, under = b64(pack["checkpoint"]).decode().rpartition("\n\n")
    lines = [re.fullmatch(r"\u2014 (\S+) (\S+)", line).groups() for line in under.removesuffix("\n").split("\n")]
    lines = [(name, base64.b64decode(blob, validate=True)) for name, blob in lines]
    origin, size, root = text.split("\n")
    def by(name, kind, key):
        key_id = sha(name.encode() + b"\n" + bytes([kind]) + key)[:4]
        return [blob[4:] for signer, blob in lines if (signer, blob[:4]) == (name, key_id)]
    def verifies(key, message, signature): return signed({"kty": "OKP", "x": spell(key)}, message, signature)
    name, _, epoch = origin.rpartition("/")
    key, text = b64(trust["log"]["key"]), (text + "\n").encode()
    own = by(origin, 1, key)
    need("checkpoint", name == trust["log"]["name"] and re.fullmatch("[1-9][0-9]*", epoch), f"of another log, {origin}")
    need("checkpoint", own and all(verifies(key, text, one) for one in own), "not signed by the log's key")
    seen = 0
    for vkey in trust["witnesses"]:
        name, _, rest = vkey.split("+", 2)
        key = base64.b64decode(rest, validate=True)[1:]
        found = by(name, 4, key)
        good = [verifies(key, b"cosignature/v1\ntime %d\n" % int.from_bytes(one[:8], "big") + text, one[8:]) for one in found]
        seen += bool(good) and need("witnesses", all(good), f"a wrong cosignature of {name}")
    need("witnesses", seen >= trust["witnesses_needed"], f"{seen} cosigned")
    for entry in pack["entries"]:
        node, place, last = sha(b"\0" + b64(entry["event"])), entry["index"], int(size) - 1
        good = place <= last
        for sibling in map(b64, entry["path"]):
            good = good and last > 0
            if place & 1 or place == last:
                node = sha(b"\1" + sibling + node)
                while place and not place & 1: place, last = place >> 1, last >> 1
            else: node = sha(b"\1" + node + sibling)
            place, last = place >> 1, last >> 1
        need("inclusion", good and last == 0 and node == base64.b64decode(root), f"entry {entry['index']}")

def fills(places, signers):
    return not places or any(places[0] in groups and fills(places[1:], signers[:n] + signers[n + 1:])
                             for n, groups in enumerate(signers))

def satisfied(rule, approvals, people):
    places = [group for group, count in rule["groups"].items() for _ in range(count)]
    return bool(places) and fills(places, [people[who]["groups"] for who in {one["iss"] for one in approvals}])

def approvals(pack, trust, documents, events):
    """Every token that verifies, by grant, each with its event."""
    keys = {digest(canonical(key["jwk"])): (slug, key) for slug, one in trust["people"].items() for key in one["keys"]}
    receipts = {i: e for i, e in events.items() if e["type"] in ANSWERS.values()}
    used, found = set(), {}
    for grant, tokens in pack["approvals"].items():
        for token in tokens:
            head, body, signature = token.split(".")
            header, claims = (json.loads(b64(part), object_pairs_hook=once) for part in (head, body))
            doc, jti = documents[grant], claims["jti"]
            person, key = keys.get(header["kid"], (None, {"jwk": {"kty": "?"}, "custody": "?"}))
            found_at = [i for i, e in receipts.items() if e.get("grant") == grant and e["facts"].get("jti") == jti]
            event = receipts[found_at[0]] if len(found_at) == 1 else {"facts": {}, "at": 0, "type": "", "actor": ""}
            administration = doc["type"] == "administration"
            parties = doc["agents"] if administration else [doc["who"]["proposing_agent"], doc["who"]["claiming_agent"]]
            requester = doc["requester"] if administration else doc["who"]["requester"]
            until = doc["time"]["approve_by" if administration else "claim_by"]
            approve = claims["decision"] == "approve"
            facts = {"token": digest(token.encode()), "digest": digest(b64(documents.raw[grant])), "key": header["kid"],
                     "custody": key["custody"]}
            good = [
                closed(header, "typ alg kid")["typ"] == "approval+jwt" and person is not None,
                header["alg"] == {"OKP": "EdDSA", "EC": "ES256"}.get(key["jwk"]["kty"]),
                person and signed(key["jwk"], f"{head}.{body}".encode(), b64(signature)),
                closed(claims, "iss aud sub grant grant_id decision iat exp jti", "reason")["iss"] == person,
                claims["aud"] == doc["issuer"] and claims["grant_id"] == grant and claims["grant"] == facts["digest"],
                claims["sub"] == ("administration" if administration else doc["who"]["claiming_agent"]),
                claims["exp"] == until and abs(claims["iat"] - event["at"]) <= 60 and approve != ("reason" in claims),
                event["at"] < (doc["time"]["approve_by"] if approve else until) and len(found_at) == 1,
                event["type"] == ANSWERS[claims["decision"]] and event["actor"] == f"person:{person}",
                all(event["facts"].get(name) == value for name, value in facts.items()) and not used & set(found_at),
                not approve or (person != requester and person not in doc["decision"].get("authors", [])
                                and all(agent in trust["agents"] and trust["agents"][agent] != person for agent in parties)
                                and key["custody"] in doc["decision"]["rule"]["custody"]
                                and set(trust["people"][person]["groups"]) & set(doc["decision"]["rule"]["groups"]))]
            if need("approvals", all(good), f"{grant} {jti}: {[n for n, one in enumerate(good) if not one]}"):
                used.add(found_at[0])
                found.setdefault(grant, []).append((found_at[0], claims))
    need("approvals", used == set(receipts), f"receipts without a token that verifies: {set(receipts) - used}")
    return found

def counting(tokens, index):
    before = [(at, one) for at, one in tokens if at < index]
    return [one for at, one in before if one["decision"] == "approve" and not any(
        later > at and other["decision"] == "withdraw" and other["iss"] == one["iss"] for later, other in before)]

def covered(grant, book, document, counted, at, people):
    def inside(value, bounds):
        if "values" in bounds: return isinstance(value, str) and value in bounds["values"]
        return isinstance(value, int) and bounds["integers"]["min"] <= value <= bounds["integers"]["max"]
    action = grant["action"]
    return (at < book["not_after"] and action["reversible"] and satisfied(document["decision"]["rule"], counted, people)
            and (book["environment"], book["action"]) == (grant["environment"], action["type"])
            and grant["time"]["work_seconds"] <= book["work_seconds"] and set(action["parameters"]) == set(book["parameters"])
            and all(inside(value, book["parameters"][name]) for name, value in action["parameters"].items())
            and {grant["who"]["proposing_agent"], grant["who"]["claiming_agent"]} <= set(book["agents"]))

def sent(grant, facts):
    credential, until = grant["credential"], facts["not_after"]
    if credential["provider"] == "jwt":
        texts = [canonical({"lease": grant["time"]["lease"], "credential": credential, "not_after": until})]
    else: texts = [credential["session_policy"].replace("{{not_after}}", stamp(until + n)).encode() for n in range(-120, 121)]
    return facts["sent"] in map(digest, texts) and (credential["provider"] != "aws"
                                                    or credential["session_policy"].count("{{not_after}}") == 1)

def leases(pack, trust, documents, events, tokens):
    """Authority, playbooks, sent, deadline, one use and life."""
    states, used, open_ = {}, {}, set()
    about = lambda grant, *kinds: [i for i, e in events.items() if e.get("grant") == grant and e["type"] in kinds]
    for i, event in events.items():
        kind, _, step = event["type"].partition(".")
        if kind == "lease" and step in STEPS:
            need("life", states.get(event["lease"]) in STEPS[step], f"event {i}")
            states[event["lease"]] = step
        facts, grant = event["facts"], documents.get(event.get("grant"))
        if event["type"] != "lease.intent" or (facts["phase"] != "execute" and "grant" not in event): continue
        if not need("authority", grant and grant["type"] == "credential", f"event {i}: under no grant of this pack"): continue
        raw, at, who, time, credential = b64(documents.raw[grant["id"]]), event["at"], grant["who"], grant["time"], grant["credential"]
        rule, aws = grant["decision"]["rule"], credential["provider"] == "aws"
        book = next((d for d in documents.values() if digest(b64(documents.raw[d["id"]])) == grant["decision"].get("playbook")), None)
        counted = [one for one in counting(tokens.get((book or grant)["id"], []), i) if one["jti"] in facts["approvals"]]
        approved = [events[n]["at"] for n in about(grant["id"], "grant.approved") if n < i]
        back = documents.get(time.get("inverse_of"))
        need("authority", all([
            facts["phase"] == "execute" and facts["grant_digest"] == digest(raw) and event["lease"] == time["lease"],
            event["actor"] == f"agent:{who['claiming_agent']}" and facts["key"] == who["claim_key"],
            facts["provider"] == credential["provider"] and facts["epoch"] == grant["epoch"],
            facts["target"] == (credential["role_arn"] if aws else credential["audience"])[:200],
            len(counted) == len(facts["approvals"]) and at < time["claim_by"],
            all(n > i for n in about(grant["id"], "grant.denied", "grant.cancelled", "grant.lapsed")),
            "inverse_of" not in time or (back["time"].get("inverse") == {"grant": grant["id"], "digest": digest(raw)} and any(
                n < i and e["type"] == "lease.released" and e.get("lease") == back["time"]["lease"] for n, e in events.items())),
            "playbook" in grant["decision"] or (satisfied(rule, counted, trust["people"]) and approved
                                                and at < approved[-1] + time["claim_seconds"])]), f"event {i}")
        if "playbook" in grant["decision"]:
            need("playbooks", book and any(n < i for n in about(book["id"], "playbook.signed")) and covered(
                grant, book["subject"]["playbook"], book, counted, at, trust["people"]), f"event {i}")
        need("sent", sent(grant, facts), f"event {i}: another text was sent than the one that was signed")
        work = min(time["work_seconds"], credential["work_seconds"])
        need("deadline", at < facts["not_after"] <= at + work + 2, f"event {i}")
        before = used.get(grant["id"])
        need("one_use", before is None or any(before <= n < i and e["type"] == "lease.refused" and e.get("lease") == event["lease"]
                                              for n, e in events.items()), f"events {before} and {i}")
        used[grant["id"]] = i

class Documents(dict):
    raw = {}

def verify(pack, trust):
    closed(pack, "version run issuer checkpoint entries texts grants administrations approvals")
    indexes = [closed(entry, "index event path")["index"] for entry in pack["entries"]]
    need("form", pack["version"] == trust["version"] == 1 and pack["issuer"] == trust["issuer"], "of another broker or version")
    need("form", indexes == sorted(set(indexes)) and len(indexes) <= 10_000, "entries do not ascend, each once")
    log(pack, trust)
    events = {entry["index"]: closed(strict(b64(entry["event"])), "version type at actor facts texts", "run grant lease previous")
              for entry in pack["entries"]}
    need("events", all(e["type"] in KINDS and e["version"] == 1 for e in events.values()), "of an unknown kind")
    last = None
    for i, event in events.items():
        if "run" not in event: continue
        need("chain", event["run"] == pack["run"] and event.get("previous") == last, f"entry {i} follows {event.get('previous')}")
        need("chain", (event["type"] == "run.opened") == (last is None), f"entry {i}")
        last = i
    need("chain", last is not None, "no event of the run")
    for text in pack["texts"]:
        raw = b64(closed(text, "index name salt value")["salt"]) + b64(text["value"])
        need("texts", events[text["index"]]["texts"].get(text["name"]) == digest(raw), f"{text['name']} of {text['index']}")
    need("texts", len({(t["index"], t["name"]) for t in pack["texts"]}) == len(pack["texts"]), "twice the same")
    documents = Documents()
    documents.raw = {**pack["grants"], **pack["administrations"]}
    seals = [(e.get("grant"), e["facts"].get("digest")) for e in events.values()
             if e["type"] in ("grant.sealed", "grant.suggested", "administration.sealed")]
    for name, raw in documents.raw.items():
        documents[name] = doc = strict(b64(raw))
        need("grants", doc["id"] == name and doc["version"] == 1 and doc["issuer"] == trust["issuer"], name)
        need("grants", [d for grant, d in seals if grant == name] == [digest(b64(raw))], f"{name} is not what was sealed")
        need("grants", name in pack["administrations"] or doc["who"]["run"] == pack["run"], f"{name} is of another run")
    need("grants", {grant for grant, _ in seals} == set(documents), "a grant is missing")
    leases(pack, trust, documents, events, approvals(pack, trust, documents, events))

def main():
    run = None
    try:
        pack, trust = (strict(open(path, "rb").read().removesuffix(b"\n"), most) for path, most in
                       zip(sys.argv[1:3], (16 * 2**20, 4 * 2**20), strict=True))
        run = pack.get("run")
        verify(pack, trust)
    except Exception as error: need("form", False, f"{type(error).__name__}: {error}")
    print(json.dumps({"ok": not FAILED, "run": run, "failed": FAILED}))
    return 1 if FAILED else 0

if __name__ == "__main__": sys.exit(main())
