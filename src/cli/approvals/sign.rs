//! `phasebroker approvals sign`: fetch, parse, render and hash here, show, ask, sign the digest of the bytes shown.
//! No flag skips the question.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::{Fetched, approval_token, fetch, path};
use crate::cli::exit::Exit;
use crate::cli::person::wire::{OpenGrant, OpenGrants, Received, missing};
use crate::cli::person::{PersonArgs, PersonClient, read};
use crate::cli::render::render_story;
use crate::cli::terminal::{Output, ask_for_code};
use crate::domain::approval::Answer;
use crate::domain::decision::Tier;
use crate::domain::grant::{Grant, GrantState};
use crate::domain::id::GrantId;
use crate::domain::key::Custody;
use crate::domain::proposal::visible;

/// Lines of each of the agent's texts that are shown before the question.
const STORY_LINES: usize = 12;

/// Arguments of `approvals sign`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The grant.
    pub grant: GrantId,
    /// Who signs, and where.
    #[command(flatten)]
    pub person: PersonArgs,
}

/// A signature the broker took.
#[derive(Debug)]
pub struct Signed {
    /// The approval token.
    pub token: String,
    /// What the broker answered, whole.
    pub answer: Value,
    /// What the broker answered, read.
    pub received: Received,
    /// The way back, signed in the same ceremony; absent when it was signed before.
    pub inverse: Option<Box<Signed>>,
}

/// Asks on the terminal and signs.
pub async fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let client = args.person.connect().await?;
    let mut trouble = None;
    let mut ask = |text: &str, code: &str| {
        ask_for_code(text, code).unwrap_or_else(|error| {
            trouble = Some(error);
            false
        })
    };
    let signed = sign_with(&client, args.grant, &mut ask).await;
    if let Some(error) = trouble {
        return Err(error);
    }
    let signed = signed?;
    output.print(&signed.answer, || {
        let received = &signed.received;
        let rest = match (received.outstanding.is_empty(), received.claim_until) {
            (true, Some(until)) => format!("the rule is satisfied; it can be claimed until {until}"),
            (true, None) => "the rule is satisfied; it is in force".to_owned(),
            _ => format!("still missing: {}", missing(&received.outstanding)),
        };
        let back = signed.inverse.as_ref().map_or_else(String::new, |back| {
            format!("\nits way back {} was signed with it: {}", back.received.grant, back.received.state)
        });
        visible(&format!("signed {} as {}: {}; {rest}{back}", args.grant, client.person(), received.state))
    })?;
    Ok(Exit::Done.into())
}

/// Signs `grant` when `ask`, given the rendering and the short code, says yes. Nothing is signed when any check fails:
/// list and bytes must agree, the agent's words must be those the grant was sealed with. A grant that names its way back
/// is signed together with it: both are rendered, and the code covers both, since the digest of the way back is in it.
pub async fn sign_with(
    client: &PersonClient,
    grant: GrantId,
    ask: &mut (dyn FnMut(&str, &str) -> bool + Send),
) -> anyhow::Result<Signed> {
    let open: OpenGrants = read(&client.get("/v1/approvals").await?)?;
    let fetched = fetch(client, grant).await?;
    check(client, &open, &fetched, true)?;
    let back = way_back(client, &open, &fetched).await?;
    let story = fetched.story()?;
    let code = fetched.signed.signable().digest.short_code();
    // The agent's words come first, so that nothing it wrote stands between the grant and the question.
    let words = story.map(|story| format!("{}\n", render_story(&story, STORY_LINES))).unwrap_or_default();
    let back_text = back.iter().map(|back| match is_signed(client, back) {
        false => format!("THE WAY BACK, signed with it:\n{}\n", back.signed.render()),
        true => format!("THE WAY BACK, signed before:\n{}\n", back.signed.render()),
    });
    let mut text = format!("{words}{}{}", back_text.collect::<String>(), fetched.signed.render());
    if client.signer().custody() == Custody::SshAgent {
        text.push_str(
            "\nAn ssh-agent signs silently for any process of your user, unless the key was added with `ssh-add -c`,\n\
             which asks you each time. If you did not add it so, anything that runs as you could have approved this.\n",
        );
    }
    if !ask(&text, &code) {
        return Err(Exit::NotSigned.because("nothing was signed: the short code was not typed"));
    }
    // The way back first: a grant is never approved without the one that people were shown with it.
    let inverse = match &back {
        Some(back) if !is_signed(client, back) => Some(Box::new(send(client, back, None).await?)),
        _ => None,
    };
    send(client, &fetched, inverse).await
}

/// The grant that takes this one back, when one was made with it: exactly the bytes that this one names.
async fn way_back(
    client: &PersonClient,
    open: &OpenGrants,
    fetched: &Fetched,
) -> anyhow::Result<Option<Fetched>> {
    let Some(sealed) = fetched.signed.credential() else { return Ok(None) };
    let (grant, no) =
        (sealed.grant(), |what: &str| Exit::NotSigned.because(format!("nothing was signed: {what}")));
    if grant.time.inverse_of.is_some() {
        return Err(no("it is the way back of another grant; sign that one, and this one is signed with it"));
    }
    let Some(inverse) = grant.time.inverse else { return Ok(None) };
    let back = fetch(client, inverse.grant).await?;
    let Some(named) = back.signed.credential() else {
        return Err(no("what the grant calls its way back is something else"));
    };
    if named.digest() != inverse.digest || named.grant().time.inverse_of != Some(grant.id) {
        return Err(no("the way back that the broker shows is not the one in the grant"));
    }
    belongs(grant, named.grant()).map_err(|why| no(&format!("its way back {} {why}", inverse.grant)))?;
    check(client, open, &back, !is_signed(client, &back))?;
    Ok(Some(back))
}

/// One ceremony signs both: the way back may differ from what it takes back in what it does, not in where, for whom and
/// under which authority.
fn belongs(grant: &Grant, back: &Grant) -> Result<(), &'static str> {
    let unlike = [
        (back.environment != grant.environment, "is for another environment"),
        (back.who.run != grant.who.run, "belongs to another run"),
        (back.who.claiming_agent != grant.who.claiming_agent, "is claimed by another agent"),
        (back.who.requester != grant.who.requester, "is asked for by another person"),
        (back.issuer != grant.issuer, "is of another broker"),
        (back.time.inverse.is_some(), "names a way back of its own"),
        (back.decision.break_glass, "is asked for under the break-glass rule"),
        (back.decision.tier != Tier::NeedsApproval, "is nothing that people sign"),
    ];
    match unlike.into_iter().find(|(differs, _)| *differs) {
        Some((_, why)) => Err(why),
        None => Ok(()),
    }
}

/// A ceremony may have been broken off after its first half: then only the other half is left to sign.
fn is_signed(client: &PersonClient, back: &Fetched) -> bool {
    let person = client.person().as_str();
    let last = back.document.approvals.iter().rfind(|given| given.person == person);
    back.document.state == GrantState::Approved.name() || last.is_some_and(|l| l.decision == Answer::Approve)
}

/// Signs the bytes that were shown, and sends the signature.
async fn send(
    client: &PersonClient,
    fetched: &Fetched,
    inverse: Option<Box<Signed>>,
) -> anyhow::Result<Signed> {
    let (signed, now) = (fetched.signed.signable(), client.now());
    let grant = signed.id;
    if signed.approve_by.has_passed(now) {
        return Err(Exit::NotSigned.because("nothing was signed: its time to sign ran out while you read"));
    }
    let token = approval_token(client.signer(), client.person(), signed, Answer::Approve, None, now)?;
    let answer = client.post_proof(&path(grant, "approvals"), &json!({ "token": token })).await?;
    let received: Received = read(&answer)?;
    if received.grant != grant || received.decision != Answer::Approve {
        return Err(Exit::Refused.because(format!(
            "{grant} was signed, and nothing else; but the broker answered about {} ({}): tell its operator",
            received.grant,
            received.decision.name()
        )));
    }
    Ok(Signed { token, answer, received, inverse })
}

fn check(
    client: &PersonClient,
    open: &OpenGrants,
    fetched: &Fetched,
    to_be_signed: bool,
) -> anyhow::Result<()> {
    let signed = fetched.signed.signable();
    let no = |what: String| Err(Exit::NotSigned.because(format!("nothing was signed: {what}")));
    let listed: Vec<&OpenGrant> = open.approvals.iter().filter(|row| row.grant == signed.id).collect();
    let [listed] = listed.as_slice() else {
        return no(format!(
            "the grant does not wait for signatures; it is {}",
            visible(&fetched.document.state)
        ));
    };
    if listed.digest != signed.digest || listed.short_code != signed.digest.short_code() {
        return no(format!(
            "the broker lists {} with digest {}, but its bytes have {}: one of both is not what it says",
            signed.id, listed.digest, signed.digest
        ));
    }
    if signed.approve_by.has_passed(client.now()) {
        return no(format!("it could be signed until {}", signed.approve_by));
    }
    if signed.requester == client.person() {
        return no("you are its requester; another person has to sign (no self-approval)".to_owned());
    }
    if signed.authors.contains(client.person()) {
        return no("you are an author of the rules it was decided under (separation of duties)".to_owned());
    }
    if fetched.signed.credential().is_some_and(|sealed| !sealed.grant().time.is_short()) {
        return no("it can be signed or claimed for longer than any policy can say".to_owned());
    }
    let custody = client.signer().custody();
    if !signed.rule.custody.contains(&custody) {
        return no(format!("the rule does not accept a key kept as `{custody}`: {}", signed.rule));
    }
    if to_be_signed && !listed.you_may_sign {
        let why = listed.why_not.as_deref().unwrap_or("it does not say why");
        return no(format!("the broker says you may not sign: {}", visible(why)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::render::tests::grant;
    use crate::domain::digest::Digest;
    use crate::domain::id::RunId;
    use crate::domain::time::Timestamp;

    #[test]
    fn what_is_signed_along_as_a_way_back_is_for_the_same_place_people_and_agent() {
        let forward = grant();
        let pair = |change: &dyn Fn(&mut Value)| {
            let mut back = forward.clone();
            back["id"] = json!(GrantId::generate(Timestamp::from_seconds(1)));
            change(&mut back);
            let read = |value: &Value| serde_json::from_value::<Grant>(value.clone()).unwrap();
            belongs(&read(&forward), &read(&back))
        };
        assert_eq!(pair(&|_| {}), Ok(()));
        assert_eq!(pair(&|back| back["action"]["parameters"]["size"] = json!(2)), Ok(()));
        let run = RunId::generate(Timestamp::from_seconds(1));
        let inverse = json!({"grant": GrantId::nil(), "digest": Digest::of(b"x")});
        for (member, value, why) in [
            ("/environment", json!("staging"), "another environment"),
            ("/who/run", json!(run), "another run"),
            ("/who/claiming_agent", json!("other"), "another agent"),
            ("/who/requester", json!("mallory"), "another person"),
            ("/issuer", json!("https://other.example"), "another broker"),
            ("/decision/tier", json!("suggest_only"), "nothing that people sign"),
        ] {
            let told = pair(&|back| *back.pointer_mut(member).unwrap() = value.clone());
            assert!(told.unwrap_err().contains(why), "{member}");
        }
        assert!(pair(&|back| back["time"]["inverse"] = inverse.clone()).unwrap_err().contains("of its own"));
        assert!(
            pair(&|back| back["decision"]["break_glass"] = json!(true)).unwrap_err().contains("break-glass")
        );
    }
}
