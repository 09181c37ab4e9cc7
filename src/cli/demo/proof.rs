//! The demo's last word: everything about the run in one file, checked offline with the trust file alone, and a changed
//! copy of it refused.

use anyhow::Context as _;

use super::screen::Screen;
use super::world::World;
use crate::cli::audit::{pack, trust, verify};
use crate::cli::person::PersonClient;
use crate::config::Config;
use crate::domain::id::RunId;
use crate::ledger::evidence::verify::verify as check;

/// Leaves `<run>.evidence` and `trust.json` beside the world, and checks them.
pub(super) async fn prove(
    world: &World,
    auditor: &PersonClient,
    run: RunId,
    screen: &mut Screen,
) -> anyhow::Result<()> {
    let (file, trusted) = (world.dir.join(format!("{run}.evidence")), world.dir.join("trust.json"));
    let config = Config::read(&world.config)
        .map_err(|errors| anyhow::anyhow!("the embedded configuration cannot be used: {errors}"))?;
    let trust = trust::of(&config).await?;
    std::fs::write(&trusted, trust.to_bytes()?).with_context(|| trusted.display().to_string())?;
    let mut packed = pack::write(auditor, run, &file).await?;
    let verdict = verify::verdict(&file, &trusted)?;
    screen.fact("evidence", &format!("{run}.evidence: one file, checked with trust.json and nothing else"));
    screen.must("the evidence holds", verdict.ok, &verdict.failed().join(", "));
    for (title, lines) in [("It proves:", &verdict.proves), ("It does not prove:", &verdict.does_not_prove)] {
        screen.show(title);
        lines.iter().for_each(|line| screen.show(&format!("- {line}")));
    }
    let last = packed.entries.last_mut().and_then(|entry| entry.event.0.last_mut());
    *last.context("the run has events")? ^= 1;
    let changed = check(&packed.to_bytes()?, &trust);
    screen.refused(
        "the same file with one bit changed",
        !changed.ok,
        &format!("NOT VERIFIED: {}", changed.failed().join(", ")),
    );
    Ok(())
}
