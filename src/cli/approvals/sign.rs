//! `phasebroker approvals sign`: fetch, parse, render and hash here, show, ask, sign the digest of the bytes shown.
//! No flag skips the question.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::{Fetched, approval_token, fetch, path};
use crate::cli::exit::Exit;
use crate::cli::person::wire::{OpenGrant, OpenGrants, Received, missing};
use crate::cli::person::{PersonArgs, PersonClient, read};
use crate::cli::render::{render, render_story};
use crate::cli::terminal::{Output, ask_for_code};
use crate::domain::approval::Answer;
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
            _ => format!("still missing: {}", missing(&received.outstanding)),
        };
        visible(&format!("signed {} as {}: {}; {rest}", args.grant, client.person(), received.state))
    })?;
    Ok(Exit::Done.into())
}

/// Signs `grant` when `ask`, given the rendering and the short code, says yes. Nothing is signed when any check fails:
/// list and bytes must agree, the agent's words must be those the grant was sealed with.
pub async fn sign_with(
    client: &PersonClient,
    grant: GrantId,
    ask: &mut (dyn FnMut(&str, &str) -> bool + Send),
) -> anyhow::Result<Signed> {
    let open: OpenGrants = read(&client.get("/v1/approvals").await?)?;
    let fetched = fetch(client, grant).await?;
    check(client, &open, &fetched)?;
    let story = fetched.story()?;
    let sealed = &fetched.sealed;
    let code = sealed.digest().short_code();
    // The agent's words come first, so that nothing it wrote stands between the grant and the question.
    let mut text = format!("{}\n{}", render_story(&story, STORY_LINES), render(sealed));
    if client.signer().custody() == Custody::SshAgent {
        text.push_str(
            "\nAn ssh-agent signs silently for any process of your user, unless the key was added with `ssh-add -c`,\n\
             which asks you each time. If you did not add it so, anything that runs as you could have approved this.\n",
        );
    }
    if !ask(&text, &code) {
        return Err(Exit::NotSigned.because("nothing was signed: the short code was not typed"));
    }
    let now = client.now();
    if sealed.grant().time.approve_by.has_passed(now) {
        return Err(Exit::NotSigned.because("nothing was signed: its time to sign ran out while you read"));
    }
    let token = approval_token(client.signer(), client.person(), sealed, Answer::Approve, None, now)?;
    let answer = client.post_proof(&path(grant, "approvals"), &json!({ "token": token })).await?;
    let received: Received = read(&answer)?;
    if received.grant != grant || received.decision != Answer::Approve {
        return Err(Exit::Refused.because(format!(
            "{grant} was signed, and nothing else; but the broker answered about {} ({}): tell its operator",
            received.grant,
            received.decision.name()
        )));
    }
    Ok(Signed { token, answer, received })
}

fn check(client: &PersonClient, open: &OpenGrants, fetched: &Fetched) -> anyhow::Result<()> {
    let sealed = &fetched.sealed;
    let grant = sealed.grant();
    let no = |what: String| Err(Exit::NotSigned.because(format!("nothing was signed: {what}")));
    let listed: Vec<&OpenGrant> = open.approvals.iter().filter(|row| row.grant == grant.id).collect();
    let [listed] = listed.as_slice() else {
        return no(format!(
            "the grant does not wait for signatures; it is {}",
            visible(&fetched.document.state)
        ));
    };
    if listed.digest != sealed.digest() || listed.short_code != sealed.digest().short_code() {
        return no(format!(
            "the broker lists {} with digest {}, but its bytes have {}: one of both is not what it says",
            grant.id,
            listed.digest,
            sealed.digest()
        ));
    }
    if grant.time.approve_by.has_passed(client.now()) {
        return no(format!("it could be signed until {}", grant.time.approve_by));
    }
    if grant.who.requester == *client.person() {
        return no("you are its requester; another person has to sign (no self-approval)".to_owned());
    }
    let custody = client.signer().custody();
    if !grant.decision.rule.custody.contains(&custody) {
        return no(format!("the rule does not accept a key kept as `{custody}`: {}", grant.decision.rule));
    }
    if !listed.you_may_sign {
        let why = listed.why_not.as_deref().unwrap_or("it does not say why");
        return no(format!("the broker says you may not sign: {}", visible(why)));
    }
    Ok(())
}
