"""A second verifier of evidence packs, written from the format (src/ledger/evidence/mod.rs) and nothing else.
Usage: verify_evidence.py PACK TRUST. Prints a verdict as JSON; exit code 0 when everything that must hold holds."""
import base64, hashlib, json, re, sys, time as clock
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, utils
from cryptography.hazmat.primitives.hashes import SHA256
KNOWN = re.compile("grant.(sealed|suggested|approved|denied|cancelled|lapsed)|approval.(received|withdrawn)|"
                   "lease.(intent|refused|unknown|minted|released|ended|recalled)|playbook.(signed|suspended)|"
                   "(?!(grant|approval|lease|playbook)[.])[a-z0-9._]+")
STEPS = "(new|refused)>intent|intent>(refused|unknown|minted)|minted>released|(minted|unknown|released)>ended|.+>recalled"
ANSWERS = {"approve": "approval.received", "deny": "grant.denied", "withdraw": "approval.withdrawn"}
ENDED, SEALS = ("grant.denied", "grant.cancelled", "grant.lapsed"), ("grant.sealed", "grant.suggested", "administration.sealed")
DENY = dict(Effect="Deny", Action="*", Resource="*", Condition={"DateGreaterThanEquals": {"aws:CurrentTime": "{{not_after}}"}})
EVENT, FAILED = ("version type at actor facts texts", "run grant lease previous"), {}
def need(check, holds, why):
    if not holds and len(FAILED.setdefault(check, [])) < 20: FAILED[check].append(str(why))
def stage(check, work, *args):  # What cannot be read does not hold.
    try: return work(*args)
    except Exception as error: need(check, False, repr(error))
def digest(raw): return spell(sha(raw))
def sha(raw): return hashlib.sha256(raw).digest()
def spell(raw): return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
def canonical(value): return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
def b64(text):
    assert spell(raw := base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))) == text, "another spelling"; return raw
def once(pairs): return dict(pairs) if len(dict(pairs)) == len(pairs) else {}  # No claims at all, when one is there twice.
def plain(value, depth=0):  # Integers within 2^53-1, printable ASCII, at most 12 levels.
    bad = abs(value) >= 2**53 if isinstance(value, int) else isinstance(value, str) and re.search("[^ -~]", value)
    assert not bad and depth <= 12 and not isinstance(value, float), "not plain"
    for one in [*value, *value.values()] if type(value) is dict else value if type(value) is list else []: plain(one, depth + 1)
def strict(raw, most=65535):
    plain(value := json.loads(raw))
    assert len(raw) <= most and canonical(value) == raw, "too large, or not in the form of RFC 8785"; return value
def closed(value, must, may=""):
    assert set(must.split()) <= set(value) <= set(f"{must} {may}".split()), f"members {sorted(value)}"; return value
def signed(jwk, message, signature):  # By this key, with the algorithm of its kind.
    try:
        if jwk["kty"] == "OKP": ed25519.Ed25519PublicKey.from_public_bytes(b64(jwk["x"])).verify(signature, message)
        else:
            halves = (int.from_bytes(signature[at:at + 32], "big") for at in (0, 32))
            point = ec.EllipticCurvePublicNumbers(*(int.from_bytes(b64(jwk[c]), "big") for c in "xy"), ec.SECP256R1())
            point.public_key().verify(utils.encode_dss_signature(*halves), message, ec.ECDSA(SHA256()))
        return len(signature) == 64
    except Exception: return False
def checkpoint(pack, trust):  # The size, root and epoch that the log signed; cosignatures beside it.
    text, _, under = b64(pack["checkpoint"]).decode().rpartition("\n\n")
    lines = [re.fullmatch("\u2014 (\\S+) (\\S+)", line).groups() for line in under.removesuffix("\n").split("\n")]
    lines = [(name, base64.b64decode(blob, validate=True)) for name, blob in lines]
    (origin, size, root), text = text.split("\n"), text.encode() + b"\n"
    def good(name, kind, key, message):
        found = [raw[4:] for who, raw in lines if (who, raw[:4]) == (name, sha(name.encode() + b"\n" + bytes([kind]) + key)[:4])]
        return [signed({"kty": "OKP", "x": spell(key)}, *message(one)) for one in found]
    own = good(origin, 1, b64(trust["log"]["key"]), lambda one: (text, one))
    def cosigned(one): return b"cosignature/v1\ntime %d\n" % int.from_bytes(one[:8], "big") + text, one[8:]
    need("checkpoint", own and all(own) and re.fullmatch(re.escape(trust["log"]["name"]) + "/[1-9][0-9]*", origin), origin)
    found = [good(vkey.split("+")[0], 4, base64.b64decode(vkey.split("+", 2)[2])[1:], cosigned) for vkey in trust["witnesses"]]
    need("witnesses", all(map(all, found)) and sum(map(bool, found)) >= trust["witnesses_needed"], "too few, or a wrong one")
    return int(size), base64.b64decode(root, validate=True), int(origin.rpartition("/")[2])
def included(entry, size, root):
    node, place, last, good = sha(b"\0" + b64(entry["event"])), entry["index"], size - 1, entry["index"] < size
    for sibling in map(b64, entry["path"]):
        good, right = good and last > 0, place & 1 or place == last
        node = sha(b"\1" + (sibling + node if right else node + sibling))
        while right and place and not place & 1: place, last = place >> 1, last >> 1
        place, last = place >> 1, last >> 1
    need("inclusion", good and last == 0 and node == root, f"entry {entry['index']}")
def satisfied(rule, approvals, trust):  # Distinct people fill every place of the rule.
    def fills(places, free):
        return not places or any(places[0] in trust["people"][one]["groups"] and fills(places[1:], free - {one}) for one in free)
    places = [group for group, count in rule["groups"].items() for _ in range(count)]
    return places and min(rule["groups"].values()) > 0 and fills(places, {one["iss"] for _, one in approvals})
def shape(doc):  # Nothing was signed that nobody reads.
    mint, time = doc["type"] != "administration", doc["time"]
    of = "environment who action credential evidence" if mint else "requester agents subject"
    closed(doc, f"version type id epoch issuer decision time {of}")
    basis, more = "id rule reasons policy catalog directory guardrails" + " tier" * mint, " playbook alert break_glass" * mint
    closed(doc["decision"], basis, "authors" + more), closed(doc["decision"]["rule"], "groups custody", "separate_authors")
    closed(time, "sealed_at approve_by nonce" + " lease claim_seconds claim_by work_seconds" * mint, "inverse inverse_of" * mint)
    if mint: closed(doc["who"], "run proposing_agent claiming_agent claim_key requester asked_in_person attestation")
    return doc
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
    owners = [trust["agents"][a] for a in (who["agents"] if admin else [who["proposing_agent"], who["claiming_agent"]]) if yes]
    assert not yes or person not in [who["requester"], *decision.get("authors", []), *owners], "a party"
    assert not yes or key["custody"] in rule["custody"] and {*trust["people"][person]["groups"]} & {*rule["groups"]}, "not theirs"
    return at, claims
def covers(sheet, grant, at, spent):  # Whether a grant lies inside a playbook, which was not used up.
    book, action, most = sheet["subject"]["playbook"], grant["action"], sheet["subject"]["playbook"]["budget"]
    def inside(value, of):
        return value in (of["values"] if "values" in of else range(of["integers"]["min"], of["integers"]["max"] + 1))
    return (at < book["not_after"] and action["reversible"] and grant["time"]["work_seconds"] <= book["work_seconds"]
            and (book["environment"], book["action"]) == (grant["environment"], action["type"])
            and set(action["parameters"]) == set(book["parameters"]) and sheet["epoch"] == grant["epoch"]
            and all(inside(value, book["parameters"][name]) for name, value in action["parameters"].items())
            and {grant["who"]["proposing_agent"], grant["who"]["claiming_agent"]} <= set(book["agents"]) <= set(sheet["agents"])
            and len(spent) <= book["max_uses"] and sum(t > at - most["seconds"] for t in spent) <= most["uses"])
def own(grant, aws):  # A session that ends itself, in its policy and soon after, and names the grant.
    policy, lease = json.loads(text := aws["session_policy"]), grant["time"]["lease"]
    tags = dict(lease=lease, phase="execute", agent=grant["who"]["claiming_agent"], grant=grant["id"])
    named = dict(session_name=f"execute-{lease}", source_identity=grant["id"], duration_seconds=900, tags=tags)
    ends = DENY.items() <= (last := policy["Statement"][-1]).items() and set(last) <= {*DENY, "Sid"}
    return ends and text.count("{{not_after}}") == 1 and len(canonical(policy)) == len(text) and named.items() <= aws.items()
def use(trust, docs, events, tokens, epoch, i, event):  # One intent to mint for work, under the grant it names.
    (grant, raw), facts, at = docs[event["grant"]], event["facts"], event["at"]
    who, time, credential, decision = grant["who"], grant["time"], grant["credential"], grant["decision"]
    def about(grant, *kinds): return [n for n, e in events.items() if n < i and e.get("grant") == grant and e["type"] in kinds]
    def stepped(step, lease): return [n for n, e in events.items() if (e["type"], e.get("lease")) == (step, lease)]
    aws, autonomous, refused = credential["provider"] == "aws", "playbook" in decision, stepped("lease.refused", time["lease"])
    sheet = next((doc for doc, raw in docs.values() if digest(raw) == decision.get("playbook")), None)
    before = [(n, one) for n, one in tokens.get((sheet or grant)["id"], []) if n < i]
    counted = [(n, one) for n, one in before if one["decision"] == "approve" and one["jti"] in facts["approvals"] and not any(
        later > n and (other["decision"], other["iss"]) == ("withdraw", one["iss"]) for later, other in before)]
    signing = [events[n] for n in about(grant["id"], "approval.received", "approval.withdrawn", "grant.approved")]
    steps, dates = [e["type"] for e in signing], [e["at"] for e in signing]
    same = {"phase": "execute", "grant_digest": digest(raw), "key": who["claim_key"], "epoch": grant["epoch"],
            "provider": credential["provider"], "target": credential["role_arn" if aws else "audience"][:200]}
    undone = docs[time["inverse_of"]][0]["time"] if "inverse_of" in time else None
    this = {"grant": grant["id"], "digest": same["grant_digest"]}
    need("authority", all(facts.get(name) == value for name, value in same.items()) and grant["epoch"] <= epoch
         and (event["lease"], event["actor"]) == (time["lease"], f"agent:{who['claiming_agent']}")
         and len(counted) == len(facts["approvals"]) and at < time["claim_by"]
         and max([time["sealed_at"], *(events[n]["at"] for n, _ in counted)]) <= at
         and not about(grant["id"], *ENDED) and not about(None, "run.closed")
         and (not undone or (min(stepped("lease.released", undone["lease"])) < i and undone["inverse"] == this))
         and (autonomous or (steps.index("grant.approved") == len(steps) - 1 and steps[-2] == "approval.received"
                             and dates[-2] == dates[-1] > at - time["claim_seconds"]))
         and (autonomous or satisfied(decision["rule"], counted, trust)), f"event {i}")
    spent = [e["at"] for n, e in events.items() if n <= i and (e["type"], e["facts"].get("phase")) == ("lease.intent", "execute")
             and docs[e["grant"]][0]["decision"].get("playbook") == decision.get("playbook")
             and not any(m > n for m in stepped("lease.refused", e["lease"]))]
    if autonomous: need("playbooks", sheet and about(sheet["id"], "playbook.signed") and covers(sheet, grant, at, spent)
                        and not about(sheet["id"], "playbook.suspended", *ENDED)
                        and satisfied(sheet["decision"]["rule"], counted, trust), f"event {i}")
    until, policy = facts["not_after"], credential.get("session_policy", "")
    texts = [canonical({"lease": time["lease"], "credential": credential, "not_after": until})] * (not aws)
    texts += [policy.replace("{{not_after}}", clock.strftime("%Y-%m-%dT%H:%M:%SZ", clock.gmtime(until + n))).encode()
              for n in range(-120, 121) if aws and 0 <= until + n < 253402300800]
    need("sent", facts["sent"] in map(digest, texts) and (not aws or own(grant, credential)), f"event {i}")
    need("deadline", at < until <= at + min(time["work_seconds"], credential["work_seconds"]) + 2, f"event {i}")
    need("one_use", all(any(n < m < i for m in refused) for n in about(grant["id"], "lease.intent")), f"event {i}")
def verify(pack, trust):
    closed(pack, "version run issuer checkpoint entries texts grants administrations approvals")
    order = [closed(entry, "index event path")["index"] for entry in pack["entries"]]
    need("form", (pack["version"], trust["version"], pack["issuer"], order) == (1, 1, trust["issuer"], sorted(set(order))), order)
    parts = pack["texts"], sum(pack["approvals"].values(), []), [*pack["grants"], *pack["administrations"]]
    assert all(len(part) <= 10000 for part in [*parts, order]), "too many"
    size, root, epoch = stage("checkpoint", checkpoint, pack, trust) or (0, b"", 2**63)
    events, docs, states, tokens, named = {}, {}, {}, {}, set()
    for entry in pack["entries"]:
        stage("inclusion", included, entry, size, root)
        if event := stage("events", lambda: closed(strict(b64(entry["event"])), *EVENT)): events[entry["index"]] = event
        need("events", event and KNOWN.fullmatch(event["type"]) and event["version"] == 1, f"entry {entry['index']}")
    run = [i for i, event in events.items() if "run" in event]; need("chain", run, "none")
    for i, last in zip(run, [None, *run]):
        follows = (events[i]["run"], events[i].get("previous"), events[i]["type"] == "run.opened")
        need("chain", follows == (pack["run"], last, last is None), f"entry {i}")
    for i in {*events} - {*run}: need("chain", events[i].get("grant") in pack["administrations"] and "lease" not in events[i], i)
    for text in pack["texts"]:
        salt, name = b64(closed(text, "index name salt value")["salt"]), (text["index"], text["name"])
        bound = events.get(name[0], {"texts": {}})["texts"].get(name[1]) == digest(salt + b64(text["value"]))
        need("texts", bound and len(salt) == 16 and name not in named, name), named.add(name)
    seals = [(e.get("grant"), e["facts"].get("digest")) for e in events.values() if e["type"] in SEALS]
    first = events[run[0]]["run"], *(events[run[0]]["facts"].get(name) for name in ("requester", "environment"))
    for grant, raw in {**pack["grants"], **pack["administrations"]}.items():
        doc, _ = docs[grant] = stage("grants", lambda: shape(strict(b64(raw)))), b64(raw)
        need("grants", (doc["id"], doc["version"], doc["issuer"]) == (grant, 1, trust["issuer"])
             and (grant in pack["administrations"] or (doc["who"]["run"], doc["who"]["requester"], doc["environment"]) == first)
             and [d for g, d in seals if g == grant] == [digest(b64(raw))], f"{grant} is not what was sealed")
    need("grants", {grant for grant, _ in seals} == set(docs), "a grant is missing")
    for grant, token in ((grant, token) for grant, all_of in pack["approvals"].items() for token in all_of):
        if found := stage("approvals", approval, trust, docs, events, grant, token): tokens.setdefault(grant, []).append(found)
    received = sorted(at for all_of in tokens.values() for at, _ in all_of)
    need("approvals", received == [i for i, e in events.items() if e["type"] in ANSWERS.values()], "a token missing or twice")
    for i, event in events.items():
        (kind, _, step), lease = event["type"].partition("."), event.get("lease")
        if kind == "lease": need("life", lease and re.fullmatch(STEPS, f"{states.get(lease, 'new')}>{step}"), f"event {i}")
        if kind == "lease" and step != "recalled": states[lease] = step
        if event["type"] == "lease.intent" and (event["facts"].get("phase") not in ("observe", "decide") or "grant" in event):
            stage("authority", use, trust, docs, events, tokens, epoch, i, event)
def load(path, most): return strict(open(path, "rb").read().removesuffix(b"\n"), most)
if __name__ == "__main__":
    pack, trust = stage("form", load, sys.argv[1], 16 * 2**20) or {}, stage("form", load, sys.argv[2], 4 * 2**20)
    stage("form", verify, pack, trust)
    sys.exit(print(json.dumps({"ok": not FAILED, "run": pack.get("run"), "failed": FAILED})) or bool(FAILED))
