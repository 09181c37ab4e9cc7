//! `--log`: which log a witness watches, and by which key.

use crate::domain::digest;
use crate::domain::key::PublicKey;
use crate::ledger::checkpoint::{LogKey, Origin};
use crate::ledger::spelling::unbase64;
use crate::ledger::verifier_key::{KeyAlgorithm, VerifierKey};
use crate::ledger::witness::Watched;

/// Reads `NAME=KEY`, or a verifier key alone.
pub(super) fn parse(text: &str) -> Result<Watched, String> {
    let watched = match text.parse::<VerifierKey>() {
        Ok(key) => Watched::Exact(of_log(key)?),
        Err(error) => match text.split_once('=') {
            Some((name, key)) => named(name, key)?,
            None => return Err(format!("neither NAME=KEY nor a verifier key: {error}")),
        },
    };
    // What is held is kept as printable ASCII.
    match watched.name().is_ascii() {
        true => Ok(watched),
        false => Err("the name of a log is ASCII here".into()),
    }
}

fn named(name: &str, key: &str) -> Result<Watched, String> {
    let key = match key.parse::<VerifierKey>() {
        Ok(key) => {
            let of_epoch = key.name().parse::<Origin>().is_ok_and(|origin| origin.name() == name);
            if key.name() != name && !of_epoch {
                return Err(format!("the verifier key is named `{}`, not `{name}`", key.name()));
            }
            of_log(key)?.key().clone()
        }
        Err(_) => {
            let bytes = digest::decode(key).ok().or_else(|| unbase64(key)).unwrap_or_default();
            PublicKey::ed25519(&bytes).map_err(|_| {
                format!("`{key}` is neither base64 of the 32 bytes of an Ed25519 key nor a verifier key")
            })?
        }
    };
    LogKey::new(name, key).map(Watched::Epochs).map_err(|error| error.to_string())
}

fn of_log(key: VerifierKey) -> Result<VerifierKey, String> {
    match key.algorithm() {
        KeyAlgorithm::Ed25519 => Ok(key),
        KeyAlgorithm::CosignatureV1 => {
            Err(format!("the key of `{}` is a witness's, not a log's", key.name()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::key::SigningKey;
    use crate::ledger::spelling::base64;

    #[test]
    fn every_spelling_of_a_broker_log_is_the_same_log() {
        let key = SigningKey::generate().unwrap().public().clone();
        let log = Watched::Epochs(LogKey::new("log.example", key.clone()).unwrap());
        let vkey = |name: &str| VerifierKey::new(name, KeyAlgorithm::Ed25519, key.clone()).unwrap();
        for text in [
            format!("log.example={}", base64(key.raw())),
            format!("log.example={}", digest::encode(key.raw())),
            format!("log.example={}", vkey("log.example")),
            format!("log.example={}", vkey("log.example/7")),
        ] {
            assert_eq!(parse(&text), Ok(log.clone()), "{text}");
        }
        let alone = vkey("log.example/7");
        assert_eq!(parse(&alone.to_string()), Ok(Watched::Exact(alone)));
    }

    #[test]
    fn what_names_no_log_is_refused() {
        let key = SigningKey::generate().unwrap().public().clone();
        let vkey = |name: &str, algorithm| VerifierKey::new(name, algorithm, key.clone()).unwrap();
        let raw = base64(key.raw());
        for wrong in [
            String::new(),
            "log.example".into(),
            "log.example=".into(),
            format!("={raw}"),
            raw.clone(),
            format!("log.example={}", &raw[1..]),
            format!("log example={raw}"),
            format!("log.example/={raw}"),
            format!("lög.example={raw}"),
            format!("log.example={}", vkey("other.example", KeyAlgorithm::Ed25519)),
            format!("log.example={}", vkey("log.example", KeyAlgorithm::CosignatureV1)),
            vkey("log.example", KeyAlgorithm::CosignatureV1).to_string(),
        ] {
            assert!(parse(&wrong).is_err(), "{wrong}");
        }
    }
}
