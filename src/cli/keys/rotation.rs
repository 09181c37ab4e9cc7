//! `phasebroker keys rotation`: where the rotation of the broker's own keys stands, by the configuration and the store, and what
//! to do next. Changes nothing; the broker may run.

use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;

use crate::broker::ports::{KeptKey, KeptKeys, StoredCheckpoint};
use crate::broker::publish::Ledger;
use crate::cli::own_keys::{File, Opened, OwnKeys};
use crate::cli::serve;
use crate::cli::terminal::Output;
use crate::config::{Config, KeyPlace};
use crate::domain::digest::encode;
use crate::domain::key::{PublicKey, Thumbprint};
use crate::domain::key_certificate::KeyCertificate;
use crate::domain::key_ring::KEPT_SECONDS;
use crate::domain::time::Timestamp;
use crate::ledger::checkpoint::{Checkpoint, LogKey, Origin};
use crate::ledger::note::SignedNote;
use crate::store::StoreAudit;

/// Arguments of `keys rotation`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The broker's configuration.
    #[arg(long, value_name = "FILE", env = "PHASEBROKER_CONFIG")]
    pub config: PathBuf,
}

/// How far one key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Step {
    /// Nothing is under way.
    Settled,
    /// The configuration names what the broker does not use yet.
    Restart,
    /// What is kept was signed by a key that the configuration does not name: a broker that starts so issues nothing.
    FormerMissing,
    /// Old and new count.
    Overlap,
    /// The new one alone signs; what the old one signed in its time still counts.
    Changed,
}

/// What is told of one key.
#[derive(Debug, Serialize)]
struct Told {
    key: Thumbprint,
    step: Step,
    /// The next step, and from what time on.
    next: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<Timestamp>,
    /// What to write into the configuration for it, as TOML.
    #[serde(skip_serializing_if = "Option::is_none")]
    write: Option<String>,
}

#[derive(Debug, Serialize)]
struct Answer {
    token: Told,
    log: Told,
}

/// Runs `keys rotation`.
pub async fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    crate::authn::install_crypto();
    let config = serve::read(&args.config)?;
    let keys = OwnKeys::of(&config, File::MustBeThere)?.open().await?;
    let (kept, epoch, mut checkpoints) = StoreAudit::open(&serve::database(&config))?.own_keys()?;
    // As the broker does: what was signed before a fence is nobody's any more.
    let origin = Origin::new(&config.ledger.name, epoch)?.to_string();
    checkpoints.retain(|kept| kept.origin == origin);
    let log = match former_missing(&config, &keys, &kept, &checkpoints)? {
        Some(missing) => missing,
        None => log(&config, &keys, &checkpoints)?,
    };
    let answer = Answer { token: token(&config, &keys, &kept), log };
    output.print(&serde_json::to_value(&answer)?, || {
        [("token", &answer.token), ("log", &answer.log)].map(|(name, told)| shown(name, told)).join("\n\n")
    })?;
    Ok(ExitCode::SUCCESS)
}

fn shown(name: &str, told: &Told) -> String {
    let step = match told.step {
        Step::Settled => "settled",
        Step::Restart => "waits for a restart of the broker",
        Step::FormerMissing => "a former key is missing; a broker that starts so issues nothing",
        Step::Overlap => "between two keys",
        Step::Changed => "changed",
    };
    let from = told.from.map(|from| format!("\n  from: {from}")).unwrap_or_default();
    let write = told.write.as_deref().unwrap_or_default();
    let write = write.lines().map(|line| format!("\n    {line}")).collect::<String>();
    format!("{name} key {}: {step}\n  next: {}{from}{write}", told.key, told.next)
}

fn token(config: &Config, keys: &Opened, kept: &KeptKeys) -> Told {
    let (own, former) = (keys.token.public(), &config.keys.former_token);
    let vouched = |key: &KeptKey| {
        let KeptKey::Working(working) = key else { return None };
        let open = |certificate| KeyCertificate::open(certificate, own, &config.issuer).ok();
        working.certificate.as_deref().and_then(open).map(|claims| claims.iat)
    };
    let since = kept.keys.iter().filter_map(vouched).min();
    let of_the_ledger = kept.keys.iter().find_map(|key| match key {
        KeptKey::Token(key) => Some(key),
        _ => None,
    });
    let told =
        |step, next: &str| Told { key: own.thumbprint(), step, next: next.into(), from: None, write: None };
    match (of_the_ledger, since) {
        (Some(known), Some(_)) if known == own && former.is_empty() => Told {
            write: Some(format!("[keys]\nformer_token = [{}]", jwk(own))),
            ..told(
                Step::Settled,
                "to begin: write this, name the new key in [keys.token], and restart the broker",
            )
        },
        (Some(known), Some(since)) if known == own => Told {
            from: Some(since.plus(KEPT_SECONDS)),
            ..told(
                Step::Changed,
                "destroy the old key; from then on nothing it vouched for counts: delete `former_token`",
            )
        },
        // Without this, whatever was signed until now is refused after the restart.
        (Some(known), _) if known != own && !former.contains(known) => Told {
            write: Some(format!("[keys]\nformer_token = [{}]", jwk(known))),
            ..told(
                Step::Restart,
                "write this too, so that tokens of now count to their own end, and restart the broker",
            )
        },
        _ => told(Step::Restart, "restart the broker; it uses the key from then on"),
    }
}

/// The broker judges every kept checkpoint of the epoch, so that one of them that only an older key signed stops issuance.
fn former_missing(
    config: &Config,
    keys: &Opened,
    kept: &KeptKeys,
    checkpoints: &[StoredCheckpoint],
) -> anyhow::Result<Option<Told>> {
    let public = keys.log.public();
    let named = &config.keys.former_log;
    let log = LogKey::new(&config.ledger.name, public.clone())?.with_former(named.clone())?;
    let foreign: Vec<_> = checkpoints.iter().filter(|kept| !Ledger::is_ours(&log, kept)).collect();
    let Some(newest) = foreign.first() else { return Ok(None) };
    let of_the_store = kept.keys.iter().filter_map(|key| match key {
        KeptKey::Log(key) => Some(key),
        _ => None,
    });
    let next = keys.next_log.as_ref().map(|next| next.public());
    let mut candidates = of_the_store.chain(named.iter().map(|one| &one.key));
    let signed_all = |key: &&PublicKey| foreign.iter().all(|kept| opened(config, key, kept).is_some());
    let told = |next: String, write| Told {
        key: public.thumbprint(),
        step: Step::FormerMissing,
        next,
        from: None,
        write,
    };
    let Some(key) = candidates.find(|key| *key != public && Some(*key) != next && signed_all(key)) else {
        return Ok(Some(told(
            format!(
                "no key that is known here signed the kept checkpoint of {} entries: bring back the key that did, or begin an epoch under this one with `phasebroker store fence`",
                newest.size
            ),
            None,
        )));
    };
    // Its last: where both signed, whoever verifies believes the new one from there on.
    let last = checkpoints.iter().find_map(|kept| opened(config, key, kept));
    Ok(Some(told(
        format!(
            "the key {} signed checkpoints that are kept: if trust files of before name it, write this beside other former keys (in place of what stands there for the same key); else bring back the key that they name",
            key.thumbprint()
        ),
        last.map(|last| former(key, &last)),
    )))
}

fn log(config: &Config, keys: &Opened, checkpoints: &[StoredCheckpoint]) -> anyhow::Result<Told> {
    let public = keys.log.public();
    let newest = checkpoints.first();
    let told = |step, next: &str| Told {
        key: public.thumbprint(),
        step,
        next: next.into(),
        from: None,
        write: None,
    };
    let signed = |key: &PublicKey| newest.and_then(|newest| opened(config, key, newest));
    Ok(match (&config.keys.next_log, &keys.next_log) {
        (Some(place), Some(next)) => match (signed(public), signed(next.public())) {
            (Some(last), Some(_)) => Told {
                write: Some(format!("[keys.log]\n{}\n\n{}", written(place), former(public, &last))),
                ..told(
                    Step::Overlap,
                    "once witnesses and everybody who verifies know the next key: write this in place of [keys.log] and [keys.next_log], restart the broker, and write trust files anew",
                )
            },
            _ => told(Step::Restart, "restart the broker; both keys sign from then on"),
        },
        _ if signed(public).is_none() => {
            told(Step::Restart, "restart the broker; the key signs from then on")
        }
        _ if config.keys.former_log.is_empty() => {
            told(Step::Settled, "to begin: name the new key in [keys.next_log], and restart the broker")
        }
        _ => told(
            Step::Changed,
            "destroy the old key; leave its [[keys.former_log]] as long as anybody verifies what it signed",
        ),
    })
}

/// The checkpoint, where this very key signed it, whatever else did.
fn opened(config: &Config, key: &PublicKey, kept: &StoredCheckpoint) -> Option<Checkpoint> {
    let log = LogKey::new(&config.ledger.name, key.clone()).ok()?;
    Checkpoint::open(&SignedNote::parse(kept.note.as_bytes()).ok()?, &log).ok()
}

/// A former key of the log as a configuration names it.
fn former(key: &PublicKey, last: &Checkpoint) -> String {
    let (key, epoch) = (encode(key.raw()), last.origin.epoch());
    format!("[[keys.former_log]]\nkey = \"{key}\"\nepoch = {epoch}\nsize = {}", last.size)
}

/// A public key as a configuration names it.
fn jwk(key: &PublicKey) -> String {
    let jwk = key.jwk();
    let y = jwk.y.as_deref().map(|y| format!(", y = \"{y}\"")).unwrap_or_default();
    format!("{{ kty = \"{}\", crv = \"{}\", x = \"{}\"{y} }}", jwk.kty, jwk.crv, jwk.x)
}

/// A place as a configuration names it.
fn written(place: &KeyPlace) -> String {
    let text = |name: &str, value: String| format!("{name} = {}", toml::Value::String(value));
    let lines = match place {
        KeyPlace::File(file) => {
            vec![text("custody", "file".into()), text("file", file.display().to_string())]
        }
        KeyPlace::Pkcs11 { module, token, label, pin_file } => vec![
            text("custody", "pkcs11".into()),
            text("module", module.display().to_string()),
            text("token", token.clone()),
            text("label", label.clone()),
            text("pin_file", pin_file.display().to_string()),
        ],
        KeyPlace::Kms { key, region, profile } => {
            let profile = profile.clone().map(|profile| text("profile", profile));
            let mut lines =
                vec![text("custody", "kms".into()), text("key", key.clone()), text("region", region.clone())];
            lines.extend(profile);
            lines
        }
    };
    lines.join("\n")
}
