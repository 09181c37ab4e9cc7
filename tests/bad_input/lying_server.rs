//! A server that lies to the person who signs: nothing is signed, or exactly what was shown.

use std::sync::Mutex;

use phasebroker::broker::ports::Clock as _;
use phasebroker::cli::approvals::{Signed, sign_with};
use phasebroker::cli::clock::SystemClock;
use phasebroker::cli::exit::Exit;
use phasebroker::cli::keys::PersonSigner;
use phasebroker::cli::person::{Endpoint, PersonClient};
use phasebroker::cli::render::render;
use phasebroker::domain::approval::{APPROVAL_TYP, Approval};
use phasebroker::domain::jws::{KeyHeader, Unverified};
use phasebroker::domain::key::{Custody, PublicKey, SigningKey};

use crate::lying_broker::{Lie, LyingBroker, directory_with};

/// A key that remembers what it was asked to sign.
struct Witnessed<'a>(SigningKey, &'a Mutex<Vec<String>>);

impl PersonSigner for Witnessed<'static> {
    fn public(&self) -> &PublicKey {
        self.0.public()
    }

    fn custody(&self) -> Custody {
        Custody::File
    }

    fn comment(&self) -> &str {
        "ana"
    }

    fn sign(&self, message: &[u8]) -> anyhow::Result<Vec<u8>> {
        self.1.lock().unwrap().push(String::from_utf8(message.to_vec()).unwrap());
        Ok(self.0.sign(message)?)
    }
}

/// What came of asking ana to sign, with what she was shown and how many approvals her key made.
struct Outcome {
    signed: anyhow::Result<Signed>,
    shown: Vec<String>,
    approvals: usize,
    public: PublicKey,
}

async fn ask_to_sign(broker: &LyingBroker) -> Outcome {
    let asked: &'static Mutex<Vec<String>> = Box::leak(Box::default());
    let key = Witnessed(SigningKey::generate().unwrap(), asked);
    let public = key.public().clone();
    let endpoint = Endpoint::find(&broker.url(), None, None).await.unwrap();
    let client = PersonClient::new(endpoint, Box::new(key), "ana".parse().unwrap(), Box::new(SystemClock));
    let mut shown = Vec::new();
    let mut yes = |text: &str, _: &str| {
        shown.push(text.to_owned());
        true
    };
    let signed = sign_with(&client, broker.grant(), &mut yes).await;
    let is_approval = |input: &&String| {
        Unverified::parse(&format!("{input}.{}", "A".repeat(86)), APPROVAL_TYP, KeyHeader::Kid).is_ok()
    };
    let approvals = asked.lock().unwrap().iter().filter(is_approval).count();
    Outcome { signed, shown, approvals, public }
}

/// The person is not even asked.
async fn nothing_is_signed(lie: Lie, telling: &str) {
    let broker = LyingBroker::start(lie).await;
    let outcome = ask_to_sign(&broker).await;
    let error = outcome.signed.unwrap_err();
    assert_eq!(Exit::of(&error), Exit::NotSigned, "{lie:?}");
    assert!(error.to_string().contains(telling), "{lie:?}: {error}");
    assert!(outcome.shown.is_empty() && outcome.approvals == 0 && broker.tokens().is_empty(), "{lie:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_swaps_the_rendering_gets_no_signature() {
    // The agent's words are the only text that comes from the server; they must be those that were sealed.
    nothing_is_signed(Lie::Story, "not those the grant was sealed with").await;
    nothing_is_signed(Lie::NoStory, "not those the grant was sealed with").await;
    nothing_is_signed(Lie::NoSalt, "cannot be checked").await;
    // Everything else that is shown is made here, from the bytes.
    let broker = LyingBroker::start(Lie::None).await;
    let outcome = ask_to_sign(&broker).await;
    assert!(outcome.shown[0].contains(&render(&broker.sealed())));
    let (token, sealed) = (outcome.signed.unwrap().token, broker.sealed());
    let directory = directory_with(&outcome.public, Custody::File);
    assert!(Approval::verify(&token, &sealed, &directory, SystemClock.wall()).is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_swaps_the_digest_gets_no_signature() {
    nothing_is_signed(Lie::Digest, "one of both is not what it says").await;
    nothing_is_signed(Lie::ShortCode, "one of both is not what it says").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_swaps_the_bytes_gets_no_signature() {
    nothing_is_signed(Lie::Bytes, "one of both is not what it says").await;
    nothing_is_signed(Lie::NotCanonicalBytes, "the grant's bytes").await;
    nothing_is_signed(Lie::OtherGrant, "was asked for").await;
    nothing_is_signed(Lie::OtherGrantUnderThisId, "was asked for").await;
    nothing_is_signed(Lie::OtherIssuer, "of another broker").await;
    nothing_is_signed(Lie::NotListed, "does not wait for signatures").await;
    // Swapped between showing and signing: they are fetched once, and what was shown is what is signed.
    let broker = LyingBroker::start(Lie::SwapAfterShown).await;
    let before = broker.sealed();
    let outcome = ask_to_sign(&broker).await;
    assert!(outcome.shown[0].contains(&before.digest().to_string()));
    let directory = directory_with(&outcome.public, Custody::File);
    let token = outcome.signed.unwrap().token;
    assert!(Approval::verify(&token, &before, &directory, SystemClock.wall()).is_ok());
    assert_eq!(outcome.approvals, 1);
}
