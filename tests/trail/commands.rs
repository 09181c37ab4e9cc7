//! The command as an auditor types it, against the broker of `phasebroker dev`.

use super::world::{EXECUTE_ROLE, fixture};
use crate::dev_world::DevWorld;

#[test]
fn an_auditor_is_told_of_a_session_that_the_ledger_does_not_know() {
    let world = DevWorld::start();
    let file = |name: &str| fixture(name).display().to_string();
    let (quiet, loud) = (file("later.json"), file("unrecorded-session.json"));
    let reconcile = ["audit", "reconcile", "--role", EXECUTE_ROLE, "--records"];

    let good = world.person("erin", &[&reconcile[..], &[&quiet]].concat()).ends(0);
    assert!(good.contains("nothing was done that was not approved"), "{good}");
    let bad = world.person("erin", &[&reconcile[..], &[&quiet, &loud]].concat()).ends(1);
    for part in ["INCIDENT unrecorded_session", "2026-11-26T01:30:00Z", "Do: treat the role as taken"] {
        assert!(bad.contains(part), "{part}: {bad}");
    }
    let told = world.person("erin", &[&["--json"], &reconcile[..], &[&loud]].concat()).ends(1);
    assert!(told.contains("\"ok\": false") && told.contains("\"unrecorded_session\""), "{told}");

    let catalog = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config/catalog.toml");
    let catalog = catalog.display().to_string();
    let known = ["audit", "reconcile", "--catalog", &catalog, "--records", &loud];
    assert!(world.person("erin", &known).ends(1).contains("unrecorded_session"));
    // Without it, nobody has said that the role is ours.
    world.person("erin", &["audit", "reconcile", "--records", &loud]).ends(0);

    let packed = world.file("packed.json.gz", "\u{1f}\u{8}");
    let refused = world.person("erin", &[&reconcile[..], &[&packed]].concat()).ends(2);
    assert!(refused.contains("gunzip"), "{refused}");
    let empty = world.file("empty.json", "{\"Records\":[]}");
    let refused = world.person("erin", &[&reconcile[..], &[&empty]].concat()).ends(2);
    assert!(refused.contains("no record"), "{refused}");
}
