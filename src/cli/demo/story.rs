//! The plot of the demo: an agent's whole life, every step over the ordinary server and clients, and every refusal
//! that should happen checked. What should be refused and is not makes the demo fail.

use std::sync::Arc;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::proof;
use super::screen::Screen;
use super::world::{PASSPHRASE, World};
use crate::broker::end::Complete;
use crate::broker::grants::GrantStatus;
use crate::broker::ports::Clock as _;
use crate::broker::propose::Proposed;
use crate::broker::runs::OpenRun;
use crate::cli::agent::{
    AgentClient, AgentError, AgentSettings, Claimed, Enter, ExecuteCredential, Login, PhaseKey,
};
use crate::cli::approvals::approval_token;
use crate::cli::approvals::sign::{Signed, sign_with};
use crate::cli::clock::SystemClock;
use crate::cli::keys::agent_key::read_agent_key;
use crate::cli::keys::key_file::KeyFile;
use crate::cli::person::{Endpoint, PersonClient};
use crate::cli::terminal::ask_for_code;
use crate::domain::approval::Answer;
use crate::domain::digest::decode;
use crate::domain::grant::SealedGrant;
use crate::domain::id::{GrantId, RunId};
use crate::domain::lease::Outcome;
use crate::domain::proposal::{Proposal, Story};

/// The story being played.
pub struct Play<'a> {
    world: &'a World,
    screen: Screen,
    yes: bool,
    http: reqwest::Client,
    fixer: AgentClient,
    twin: AgentClient,
}

impl<'a> Play<'a> {
    /// Sets the stage. With `yes` the demo presses the key where a person would.
    pub fn new(world: &'a World, yes: bool, json: bool) -> anyhow::Result<Self> {
        let agent = |slug: &str| -> anyhow::Result<AgentClient> {
            let login = Login::Key { agent: slug.parse()?, key: read_agent_key(&world.agent_key(slug))? };
            let (broker, issuer) = (world.issuer.clone(), world.issuer.clone());
            Ok(AgentClient::new(AgentSettings { broker, issuer, login, ca: None }, Arc::new(SystemClock))?)
        };
        Ok(Self {
            world,
            screen: Screen::new(json),
            yes,
            http: reqwest::Client::builder().no_proxy().build()?,
            fixer: agent("fixer")?,
            twin: agent("twin")?,
        })
    }

    /// Plays it; `Ok(false)` when something that should be refused was not, or the other way round.
    pub async fn play(mut self) -> anyhow::Result<bool> {
        let (run, observe, observe_key) = self.observe().await?;
        let (grant, claim_key, twin_grant) = self.decide(run, &observe, &observe_key).await?;
        let status = self.approve(&grant, twin_grant.grant).await?;
        let claimed = self.execute(&grant, twin_grant.grant, &claim_key, &status).await?;
        self.afterwards(&grant, &claim_key, &status, &claimed).await?;
        self.prove(run).await?;
        Ok(self.screen.verdict())
    }

    async fn observe(&mut self) -> anyhow::Result<(RunId, String, PhaseKey)> {
        self.screen.chapter(
            "1",
            "OBSERVE",
            "the agent `fixer` looks, with a credential that can do nothing else",
        );
        let asked = OpenRun {
            environment: "demo".parse()?,
            purpose: "checkout answers slowly".into(),
            ticket: Some("INC-4711".into()),
            prompt_digest: Some(crate::domain::digest::Digest::of(b"You are the on-call agent.")),
            requester_token: None,
        };
        let opened = self.fixer.open_run(&asked).await?;
        self.screen.fact(
            "run",
            &format!("{} for {} (owner of the agent: its requester of record)", opened.run, opened.requester),
        );
        let key = PhaseKey::generate()?;
        let token = self.fixer.enter(opened.run, Enter::Observe("service-status"), &key).await?;
        let until = token.not_after.since(SystemClock.wall());
        self.screen
            .fact("lease", &format!("{}: a token bound to a fresh key, useless in {until} s", token.lease));
        let token = token.access_token.expose().to_owned();
        let (_, seen) = self.resource("GET", "/services", &token, &key).await?;
        let state =
            seen.pointer("/services/checkout/state").and_then(Value::as_str).unwrap_or("?").to_owned();
        self.screen.fact("it sees", &format!("checkout is {state}"));
        let (status, _) = self.resource("POST", "/services/checkout/restart", &token, &key).await?;
        self.screen.refused(
            "restarting with the observe credential",
            status == 403,
            &format!("HTTP {status}"),
        );
        Ok((opened.run, token, key))
    }

    async fn decide(
        &mut self,
        run: RunId,
        observe: &str,
        observe_key: &PhaseKey,
    ) -> anyhow::Result<(Proposed, PhaseKey, Proposed)> {
        self.screen.chapter("2", "DECIDE", "observing is over; the agent proposes exactly one action");
        let key = PhaseKey::generate()?;
        let decide = self.fixer.enter(run, Enter::Decide, &key).await?;
        let (status, _) = self.resource("GET", "/services", observe, observe_key).await?;
        self.screen.refused(
            "the observe credential after leaving the phase",
            status == 401,
            &format!("HTTP {status}"),
        );
        let claim_key = PhaseKey::generate()?;
        let proposal = |service: &str, key: &PhaseKey| -> anyhow::Result<Proposal> {
            Ok(Proposal {
                action: "restart-service".parse()?,
                environment: "demo".parse()?,
                parameters: [
                    ("service".into(), json!(service)),
                    ("reason_code".into(), json!("memory-leak")),
                ]
                .into(),
                work_seconds: Some(60),
                claiming_agent: None,
                claim_key: key.thumbprint(),
                plan_digest: None,
                preconditions: vec![],
                alert: None,
                inverse_claim_key: None,
                break_glass: false,
                story: Story {
                    diagnosis: "checkout leaks memory since 02:00".into(),
                    evidence: "p99 4.1 s; heap 97 %".into(),
                    reason: "Restarting is safe. Approvers: please sign quickly, no need to read.".into(),
                },
            })
        };
        let grant = self.fixer.propose(&decide, &key, &proposal("checkout", &claim_key)?).await?;
        self.screen.fact("grant", &format!("{}, short code {}", grant.grant, grant.short_code));
        let who: Vec<String> = grant
            .eligible
            .iter()
            .map(|(group, people)| {
                let people: Vec<&str> = people.iter().map(|p| p.as_str()).collect();
                format!("{group}: {}", people.join(", "))
            })
            .collect();
        self.screen.fact("must sign", &format!("{} ({})", grant.rule_text, who.join("; ")));
        let twin_key = PhaseKey::generate()?;
        let twin = self.fixer.propose(&decide, &key, &proposal("payments", &twin_key)?).await?;
        self.screen
            .fact("twin", &format!("{}: the same action on `payments`, which nobody will sign", twin.grant));
        let early = self.fixer.claim(grant.grant, &claim_key, &["x.y.z".to_owned()], None).await;
        self.expect("claiming before anyone signed", &early.map(drop), "grant_not_open");
        let smuggled = Proposal {
            parameters: [
                ("service".into(), json!("checkout\",\"x\":\"*")),
                ("reason_code".into(), json!("memory-leak")),
            ]
            .into(),
            ..proposal("checkout", &PhaseKey::generate()?)?
        };
        let smuggled = self.fixer.propose(&decide, &key, &smuggled).await;
        self.expect("smuggling syntax in a parameter", &smuggled.map(drop), "proposal_invalid");
        Ok((grant, claim_key, twin))
    }

    async fn approve(&mut self, grant: &Proposed, twin: GrantId) -> anyhow::Result<GrantStatus> {
        self.screen.chapter("3", "APPROVE", "a person signs the credential itself, not the agent's story");
        let alice = self.person("alice").await?;
        let own = sign_with(&alice, grant.grant, &mut |_, _| true).await;
        let why = own.as_ref().err().map(|e| format!("{e:#}")).unwrap_or_default();
        self.screen.refused("alice, who owns the agent, signing it herself", own.is_err(), &why);
        let sealed = SealedGrant::parse(&decode(&grant.document)?)?;
        let forced = approval_token(
            alice.signer(),
            alice.person(),
            &sealed,
            Answer::Approve,
            None,
            SystemClock.wall(),
        )?;
        let forced = alice
            .post_proof(&format!("/v1/grants/{}/approvals", grant.grant), &json!({ "token": forced }))
            .await;
        let why = refusal_text(&forced);
        self.screen.refused(
            "alice again, past the command line",
            why.starts_with("approver_ineligible"),
            &why,
        );
        let bob = self.person("bob").await?;
        let signed = self.sign(&bob, grant.grant).await?;
        self.screen.fact("signed", &format!("by {} over SHA-256 {}", bob.person(), grant.digest));
        let swapped =
            bob.post_proof(&format!("/v1/grants/{twin}/approvals"), &json!({ "token": signed.token })).await;
        self.screen.refused("the same signature for the twin", swapped.is_err(), &refusal_text(&swapped));
        let status = self.fixer.grant(grant.grant, 30).await?;
        self.screen.fact(
            "state",
            &format!(
                "{}; to be claimed within {} s",
                status.state,
                status.claim_until.map_or(0, |until| until.since(SystemClock.wall()))
            ),
        );
        Ok(status)
    }

    async fn sign(&self, person: &PersonClient, grant: GrantId) -> anyhow::Result<Signed> {
        let (yes, screen) = (self.yes, &self.screen);
        sign_with(person, grant, &mut |text, code| {
            screen.show(text);
            if yes {
                screen.show(&format!("(--yes: the demo types the short code {code} for bob)"));
                return true;
            }
            ask_for_code("", code).unwrap_or(false)
        })
        .await
    }

    async fn execute(
        &mut self,
        grant: &Proposed,
        twin: GrantId,
        key: &PhaseKey,
        status: &GrantStatus,
    ) -> anyhow::Result<Claimed> {
        self.screen.chapter("4", "EXECUTE", "the approved grant becomes one credential, once");
        let tokens: Vec<String> = status.approvals.iter().map(|a| a.token.clone()).collect();
        let twin_claim = self.fixer.claim(twin, &PhaseKey::generate()?, &tokens, None).await;
        self.expect("claiming the twin with these approvals", &twin_claim.map(drop), "grant_not_open");
        let thief = self.twin.claim(grant.grant, &PhaseKey::generate()?, &tokens, None).await;
        self.expect("another agent presenting the approvals", &thief.map(drop), "wrong_claimant");
        let claimed = self.fixer.claim(grant.grant, key, &tokens, None).await?;
        let seconds = claimed.not_after.since(SystemClock.wall());
        self.screen.fact("lease", &format!("{}: dead in {seconds} s whatever happens", claimed.lease));
        let token = token_of(&claimed)?;
        let (wrong, _) = self.resource("POST", "/services/payments/restart", token, key).await?;
        self.screen.refused("using it on another service", wrong == 403, &format!("HTTP {wrong}"));
        let (stolen, _) =
            self.resource("POST", "/services/checkout/restart", token, &PhaseKey::generate()?).await?;
        self.screen.refused("using it with another key", stolen == 401, &format!("HTTP {stolen}"));
        let (status, done) = self.resource("POST", "/services/checkout/restart", token, key).await?;
        anyhow::ensure!(status == 200, "the approved restart was refused: {done}");
        self.screen.fact(
            "done",
            &format!("checkout restarted, now {}", done.get("state").and_then(Value::as_str).unwrap_or("?")),
        );
        let replay = self.fixer.claim(grant.grant, key, &tokens, None).await;
        self.expect("claiming the same grant again", &replay.map(drop), "grant_spent");
        Ok(claimed)
    }

    async fn afterwards(
        &mut self,
        grant: &Proposed,
        key: &PhaseKey,
        status: &GrantStatus,
        claimed: &Claimed,
    ) -> anyhow::Result<()> {
        self.screen.chapter("5", "END", "the agent completes; the credential is dead at once");
        let done = Complete { outcome: Outcome::Succeeded, note: Some("restarted checkout".into()) };
        let end = self.fixer.complete(claimed, key, &done).await?;
        self.screen.fact("end", &end.how);
        let (after, _) = self.resource("POST", "/services/checkout/restart", token_of(claimed)?, key).await?;
        self.screen.refused("the same credential after completion", after == 401, &format!("HTTP {after}"));
        let recall = self.fixer.recall(claimed.lease, key).await;
        self.expect("asking for the credential once more", &recall.map(drop), "lease_ended");
        let tokens: Vec<String> = status.approvals.iter().map(|a| a.token.clone()).collect();
        let again = self.fixer.claim(grant.grant, key, &tokens, None).await;
        self.expect("and claiming once more", &again.map(drop), "grant_spent");
        Ok(())
    }

    async fn prove(&mut self, run: RunId) -> anyhow::Result<()> {
        self.screen.chapter(
            "6",
            "PROVE",
            "the ledger of the run, as an auditor reads it, and a file that proves it",
        );
        let olga = self.person("olga").await?;
        let events = olga.get(&format!("/v1/runs/{run}/events")).await?;
        self.screen.timeline(&events);
        proof::prove(self.world, &olga, run, &mut self.screen).await
    }

    async fn person(&self, name: &str) -> anyhow::Result<PersonClient> {
        let mut passphrase = |_: &str| Ok(zeroize::Zeroizing::new(PASSPHRASE.to_owned()));
        let key = KeyFile::open(&self.world.person_key(name), &mut passphrase)?;
        let endpoint = Endpoint::find(&self.world.issuer, None, None).await?;
        Ok(PersonClient::new(endpoint, Box::new(key), name.parse()?, Box::new(SystemClock)))
    }

    /// One call of the resource, with the token and a proof by `key`.
    async fn resource(
        &self,
        method: &str,
        path: &str,
        token: &str,
        key: &PhaseKey,
    ) -> anyhow::Result<(u16, Value)> {
        let url = format!("{}{path}", self.world.audience);
        let proof = key.proof(method, &url, Some(token), None, SystemClock.wall())?;
        let request = self.http.request(method.parse()?, &url);
        let answer =
            request.header("authorization", format!("DPoP {token}")).header("dpop", proof).send().await?;
        let status = answer.status().as_u16();
        Ok((status, answer.json().await.context("the resource answers JSON")?))
    }

    fn expect(&mut self, what: &str, outcome: &Result<(), AgentError>, code: &str) {
        let got = outcome.as_ref().err().and_then(AgentError::code);
        let text = match outcome {
            Ok(()) => "it was allowed".to_owned(),
            Err(error) => error.to_string(),
        };
        self.screen.refused(what, got == Some(code), &text);
    }
}

fn token_of(claimed: &Claimed) -> anyhow::Result<&str> {
    match &claimed.credential {
        ExecuteCredential::Token { access_token, .. } => Ok(access_token.expose()),
        ExecuteCredential::Aws(_) => anyhow::bail!("the demo mints tokens only"),
    }
}

fn refusal_text(outcome: &anyhow::Result<Value>) -> String {
    outcome.as_ref().err().map(|e| format!("{e:#}")).unwrap_or_default()
}
