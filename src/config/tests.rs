//! Claims about reading a configuration, made on the shipped one with one thing changed.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Config, ExportTo, SyslogAddress};

struct Shipped(tempfile::TempDir);

impl Shipped {
    fn copy() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
        fs::create_dir(dir.path().join("policy")).unwrap();
        for name in ["phasebroker.toml", "catalog.toml", "directory.toml", "guardrails.toml"] {
            fs::copy(from.join(name), dir.path().join(name)).unwrap();
        }
        for entry in fs::read_dir(from.join("policy")).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, dir.path().join("policy").join(path.file_name().unwrap())).unwrap();
        }
        Self(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn with(self, name: &str, old: &str, new: &str) -> Self {
        let text = fs::read_to_string(self.path(name)).unwrap();
        assert!(text.contains(old), "{name} holds {old}");
        fs::write(self.path(name), text.replacen(old, new, 1)).unwrap();
        self
    }

    fn top(self, old: &str, new: &str) -> Self {
        self.with("phasebroker.toml", old, new)
    }

    fn read(&self) -> Result<Config, String> {
        Config::read(&self.path("phasebroker.toml")).map_err(|errors| errors.to_string())
    }

    /// The mistakes, paths shortened.
    fn mistakes(&self) -> String {
        let text = self.read().map(|_| ()).unwrap_err();
        text.replace(&format!("{}/", self.0.path().display()), "")
    }
}

#[test]
fn the_shipped_configuration_reads_clean() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/phasebroker.toml");
    let config = Config::read(&path).unwrap_or_else(|errors| panic!("{errors}"));
    assert!(config.listen.ip().is_loopback() && !config.dev && config.aws.is_none());
    assert!(config.data_dir.ends_with("var/data"), "{}", config.data_dir.display());
    assert_eq!(config.limits.open_per_agent, 20);
    assert_eq!(config.limits.idle_timeout, Duration::from_secs(30));
    assert_eq!(config.reread_rules().unwrap().digests(), config.rules.digests());
}

#[test]
fn every_key_shown_but_absent_is_one_that_is_known() {
    let shipped = Shipped::copy();
    for name in ["phasebroker.toml", "guardrails.toml"] {
        let text = fs::read_to_string(shipped.path(name)).unwrap();
        let shown: Vec<String> = text
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(rest) if !rest.is_empty() && !rest.starts_with(' ') => rest.to_owned(),
                _ => line.to_owned(),
            })
            .collect();
        assert_ne!(shown.join("\n"), text.trim_end(), "{name} shows something");
        fs::write(shipped.path(name), shown.join("\n")).unwrap();
    }
    let left: Vec<String> = shipped
        .mistakes()
        .lines()
        .filter(|line| !line.contains("tls.certificate: `") && !line.contains("tls.key: `"))
        .filter(|line| !line.contains(": issuer: must be https"))
        .filter(|line| !line.contains("secret_file: `") && !line.contains("pin_file: `"))
        .map(str::to_owned)
        .collect();
    assert!(left.is_empty(), "{left:#?}");
}

#[test]
fn a_mistake_is_named_with_file_line_path_and_key() {
    let top = "phasebroker.toml";
    for (file, old, new, named) in [
        (
            top,
            "listen = \"127.0.0.1:8477\"",
            "listen = \"0.0.0.0:8477\"",
            "listen: `0.0.0.0:8477` is not loopback",
        ),
        (top, "listen = \"127.0.0.1:8477\"", "listen = \"here\"", "listen: `here` is not an address"),
        (
            top,
            "issuer = \"http://127.0.0.1:8477\"",
            "issuer = \"https://b.example\"",
            "issuer: is https, but",
        ),
        (
            top,
            "issuer = \"http://127.0.0.1:8477\"",
            "issuer = \"http://b.example\"",
            "issuer: http is for loopback",
        ),
        (top, "issuer = \"http://127.0.0.1:8477\"", "issuer = \"http://127.0.0.1:8477/\"", "closing slash"),
        (top, "behind = false", "behind = true", "issuer: must be https"),
        (top, "../var/head/phasebroker.head", "../var/data/head", "store.head_file: must lie outside"),
        (top, "connections = 1024", "connections = 0", "limits.connections: 0 is not within"),
        (top, "connections = 1024", "connections = \"many\"", "limits.connections: invalid type"),
        (top, "connections = 1024", "conections = 1024", "limits.conections: unknown field"),
        (top, "dev = false", "dve = false", "dve: unknown field"),
        (top, "decide_seconds = 300", "decide_seconds = 3000", "tokens.decide_seconds: 3000 is not within"),
        (top, "[log]", "[logs]", "logs: unknown field"),
        (top, "catalog = \"catalog.toml\"", "catalog = \"none.toml\"", "none.toml: cannot be read"),
        (top, "catalog = \"catalog.toml\"", "", "rules.catalog: missing field"),
        (
            top,
            "audience = \"http://127.0.0.1:8478\"",
            "audience = \"http://127.0.0.1:1\"",
            "environments.demo.jwt.introspects",
        ),
        ("directory.toml", "owner = \"grace\"", "owner = \"nobody\"", "agents.pay-bot.owner: `nobody`"),
        ("directory.toml", "[groups.database]", "[groups.dba]", "`database`, which is not a group"),
        ("directory.toml", "name = \"Bob Brandt\"", "nam = \"Bob\"", "people.bob.nam: unknown field"),
        ("directory.toml", "people = [\"dave\"]", "people = []", "policy `data` can never be satisfied"),
        (
            "catalog.toml",
            "max_work_seconds = 120",
            "max_work_seconds = 0",
            "actions.reboot-instance.max_work_seconds",
        ),
        ("catalog.toml", "[actions.reboot-instance]", "[actions.reboot-instance]\nsudo = true", "sudo"),
        (
            "policy/guardrails.cedar",
            "context.changes",
            "context.change",
            "guardrails.cedar:10: policy `one-change",
        ),
        ("policy/guardrails.cedar", "forbid (", "forbid", "guardrails.cedar:6"),
        (top, "guardrails = \"guardrails.toml\"", "", "rules.guardrails: missing field"),
        (top, "guardrails = \"guardrails.toml\"", "guardrails = \"none.toml\"", "none.toml: cannot be read"),
        (
            "guardrails.toml",
            "step_up_at = 3\nlimit = 10",
            "limit = -10",
            "budgets.run-changes.limit: invalid value: integer `-10`, expected a whole number that is not negative",
        ),
        (
            "guardrails.toml",
            "step_up_at = 3\n",
            "step_up_at = 30\n",
            "budgets.run-changes.step_up_at: 30 is not below",
        ),
        ("guardrails.toml", "[taint]", "[tainted]", "tainted: unknown field"),
    ] {
        let text = Shipped::copy().with(file, old, new).mistakes();
        assert!(text.contains(named), "{old} -> {new}: {text}");
        assert!(text.lines().all(|line| line.contains(".toml") || line.contains("policy")), "{text}");
    }
}

#[test]
fn lines_are_counted_in_the_file_that_is_wrong() {
    let text = Shipped::copy().with("directory.toml", "owner = \"grace\"", "owner = \"nobody\"").mistakes();
    let original = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("config/directory.toml"));
    let line = original.unwrap().lines().position(|line| line == "owner = \"grace\"").unwrap() + 1;
    assert!(text.starts_with(&format!("directory.toml:{line}: agents.pay-bot.owner: ")), "{text}");
}

#[test]
fn mistakes_of_different_files_and_sections_are_told_at_once() {
    let text = Shipped::copy()
        .top("connections = 1024", "connections = 0")
        .top("decide_seconds = 300", "decide_second = 300")
        .with("directory.toml", "owner = \"grace\"", "owner = \"nobody\"")
        .with("policy/guardrails.cedar", "context.changes", "context.change")
        .mistakes();
    for named in ["limits.connections", "tokens.decide_second", "agents.pay-bot.owner", "one-change"] {
        assert!(text.contains(named), "{text}");
    }
}

#[test]
fn an_unreadable_file_is_not_an_empty_file() {
    for name in
        ["phasebroker.toml", "catalog.toml", "directory.toml", "guardrails.toml", "policy/guardrails.cedar"]
    {
        let shipped = Shipped::copy();
        fs::write(shipped.path(name), [0xff, 0xfe]).unwrap();
        assert!(shipped.mistakes().contains(&format!("{name}: cannot be read")), "{name}");
    }
    for name in ["catalog.toml", "directory.toml", "guardrails.toml", "policy/guardrails.cedar"] {
        let shipped = Shipped::copy();
        fs::write(shipped.path(name), "").unwrap();
        assert!(shipped.mistakes().contains(name), "{name}");
    }
    let shipped = Shipped::copy();
    fs::remove_dir_all(shipped.path("policy")).unwrap();
    fs::create_dir(shipped.path("policy")).unwrap();
    assert!(shipped.mistakes().contains("holds no `*.cedar` file"));
}

#[test]
fn a_declared_proxy_with_an_https_issuer_may_listen_anywhere() {
    let shipped = Shipped::copy()
        .top("issuer = \"http://127.0.0.1:8477\"", "issuer = \"https://broker.example\"")
        .top("listen = \"127.0.0.1:8477\"", "listen = \"0.0.0.0:8477\"")
        .top("behind = false", "behind = true");
    assert!(shipped.read().unwrap().behind_proxy);
}

#[test]
fn the_dev_mark_allows_the_demo_environment_on_loopback_and_nothing_else() {
    let text = Shipped::copy().top("dev = false", "dev = true").mistakes();
    for named in ["environments.production", "environments.staging.aws", "actions.reboot-instance.provider"] {
        assert!(text.contains(named), "{text}");
    }
    let shipped = Shipped::copy().top("dev = false", "dev = true");
    let demo = r#"[environments.demo.jwt]
audience = "http://127.0.0.1:8478"
introspects = true
[actions.restart-service]
summary = "Restart the service"
provider = "jwt"
class = "availability"
settles = "None needed"
changes = 1
max_work_seconds = 60
environments = ["demo"]
"#;
    fs::write(shipped.path("catalog.toml"), demo).unwrap();
    // What is shipped speaks of environments that are not there.
    let guardrails = fs::read_to_string(shipped.path("guardrails.toml")).unwrap();
    let (before, after) = guardrails.split_once("[break_glass]").unwrap();
    let (_, after) = after.split_once("[probes").unwrap();
    fs::write(shipped.path("guardrails.toml"), format!("{before}[probes{after}")).unwrap();
    assert!(shipped.read().unwrap().dev);
    let shipped = shipped.top("listen = \"127.0.0.1:8477\"", "listen = \"0.0.0.0:8477\"");
    assert!(shipped.mistakes().contains("listens on loopback only"));
}

#[test]
fn each_account_of_aws_has_a_revoker_of_its_own_and_is_given_once() {
    let account = |account: &str, revoke: &str, more: &str| {
        format!("[[aws.accounts]]\naccount = \"{account}\"\nrevoke_profile = \"{revoke}\"\n{more}\n")
    };
    let section = |accounts: &[String]| {
        let two = "[aws]\nregion = \"eu-central-1\"\nmint_profile = \"a\"\nrevoke_profile = \"b\"";
        Shipped::copy().top("[limits]", &format!("{two}\n{}\n[limits]", accounts.concat()))
    };
    let good = account("444455556666", "c", "mint_profile = \"d\"\nregion = \"eu-west-1\"");
    let read = section(std::slice::from_ref(&good)).read().unwrap().aws.unwrap();
    assert_eq!((read.accounts[0].region.as_deref(), read.accounts.len()), (Some("eu-west-1"), 1));
    for (accounts, told) in [
        (vec![good.clone(), account("444455556666", "e", "")], "`444455556666` is given twice"),
        (vec![account("4444", "c", "")], "aws.accounts[0].account: an account has twelve digits"),
        (vec![account("444455556666", "b", "")], "aws.accounts[0].revoke_profile: revokes elsewhere already"),
        (vec![account("444455556666", "a", "")], "aws.accounts[0].revoke_profile: mints"),
        (vec![account("444455556666", "c", "mint_profile = \"b\"")], "aws.accounts[0].mint_profile: revokes"),
        (vec![account("444455556666", "c", "region = \"aws-global\"")], "`aws-global` is no region"),
        (vec![account("444455556666", "c", "extra = 1")], "unknown field"),
    ] {
        let mistakes = section(&accounts).mistakes();
        assert!(mistakes.contains(told), "{told}: {mistakes}");
    }
}

#[test]
fn the_doctor_of_an_account_is_nobody_else_and_of_no_other_account() {
    let section = |doctors: [&str; 2]| {
        let account = |at: usize, account: &str| {
            let doctor = doctors[at];
            format!(
                "[[aws.accounts]]\naccount = \"{account}\"\nrevoke_profile = \"r{at}\"\nmint_profile = \"m{at}\"\n\
                 doctor_profile = \"{doctor}\"\n"
            )
        };
        let broker = "[aws]\nregion = \"eu-central-1\"\nmint_profile = \"a\"\nrevoke_profile = \"b\"\n\
                      probe_profile = \"p\"\ndoctor_profile = \"d\"\n";
        let accounts = account(0, "444455556666") + &account(1, "777788889999");
        Shipped::copy().top("[limits]", &format!("{broker}{accounts}[limits]"))
    };
    let read = section(["d0", "d1"]).read().unwrap().aws.unwrap();
    assert_eq!(read.accounts[0].doctor_profile.as_deref(), Some("d0"));
    for other in ["", "a", "b", "p", "d", "r0", "m1"] {
        let told = section([other, "d1"]).mistakes();
        assert!(
            told.contains("aws.accounts[0].doctor_profile: must be a profile of its own"),
            "{other}: {told}"
        );
    }
    assert!(section(["d0", "d0"]).mistakes().contains("aws.accounts[1].doctor_profile"));
}

#[test]
fn an_account_of_the_catalog_in_which_nobody_can_revoke_is_a_mistake() {
    let section = |accounts: &str| {
        let two = "[aws]\nregion = \"eu-central-1\"\nmint_profile = \"a\"\nrevoke_profile = \"b\"";
        Shipped::copy().top("[limits]", &format!("{two}\n{accounts}\n[limits]"))
    };
    let mistakes = section("").mistakes();
    for told in [
        "environments.production.aws.account: nobody is known to revoke in 111122223333",
        "environments.staging.aws.account: nobody is known to revoke in 444455556666",
    ] {
        assert!(mistakes.contains(told), "{mistakes}");
    }
    section(STAGING).read().unwrap();
    let shipped = section(STAGING);
    let config = shipped.read().unwrap();
    let moved = "account = \"777788889999\"\nregion = \"eu-central-1\"\n\
                 execute_role = \"arn:aws:iam::777788889999:role/x\"\nobserve_role = \"arn:aws:iam::777788889999:role/y\"\n";
    let shipped = shipped.with(
        "catalog.toml",
        "[environments.staging.aws]",
        &format!("[environments.third.aws]\n{moved}\n[environments.staging.aws]"),
    );
    let told = config.reread_rules().unwrap_err().to_string();
    assert!(
        told.contains("environments.third.aws.account: nobody is known"),
        "a reload is no way around: {told}"
    );
    drop(shipped);
}

/// The shipped catalog's second account.
const STAGING: &str = "[[aws.accounts]]\naccount = \"444455556666\"\nrevoke_profile = \"staging\"\n";

#[test]
fn aws_needs_two_identities_and_endpoints_allowed_by_name() {
    let section = |body: &str| {
        Shipped::copy()
            .top("[limits]", &format!("[aws]\nregion = \"eu-central-1\"\n{body}\n{STAGING}[limits]"))
    };
    assert!(section("").mistakes().contains("aws.revoke_profile: must differ"));
    assert!(section("mint_profile = \"a\"\nrevoke_profile = \"a\"").mistakes().contains("must differ"));
    let two = "mint_profile = \"a\"\nrevoke_profile = \"b\"\n";
    assert_eq!(section(two).read().unwrap().aws.unwrap().revoke_profile.as_deref(), Some("b"));
    let endpoint = format!("{two}sts_endpoint = \"http://127.0.0.1:5000\"\n");
    assert!(section(&endpoint).mistakes().contains("aws.sts_endpoint: is refused unless"));
    assert!(section(&format!("{endpoint}allow_endpoints = [\"sts\"]")).read().is_ok());
    let other = format!("{two}sts_endpoint = \"http://evil.example\"\nallow_endpoints = [\"sts\"]");
    assert!(section(&other).mistakes().contains("must be an https URL"));
}

#[test]
fn a_key_has_one_owner_over_directory_and_resources() {
    let shipped = Shipped::copy();
    let text = fs::read_to_string(shipped.path("directory.toml")).unwrap();
    let person = text.lines().find_map(|line| line.strip_prefix("jwk = ")).unwrap().to_owned();
    let broker = fs::read_to_string(shipped.path("phasebroker.toml")).unwrap();
    let resource = broker.lines().find(|line| line.starts_with("keys = [")).unwrap().to_owned();
    let text = shipped.top(&resource, &format!("keys = [{person}]")).mistakes();
    assert!(text.contains("resources[0].keys: key"), "{text}");
}

#[test]
fn a_workload_of_an_issuer_that_is_not_configured_is_a_mistake() {
    let text = Shipped::copy()
        .with(
            "directory.toml",
            "[agents.pay-runner]\n",
            "[agents.pay-runner]\nworkloads = [{ issuer = \"https://ci.example\", subject = \"s\" }]\n",
        )
        .mistakes();
    assert!(text.contains("agents.pay-runner.workloads: `https://ci.example`"), "{text}");
}

#[test]
fn a_rule_that_needs_the_owner_of_every_agent_is_a_mistake() {
    let owned = |who: &str| {
        let shipped = Shipped::copy();
        let text = fs::read_to_string(shipped.path("directory.toml")).unwrap();
        fs::write(
            shipped.path("directory.toml"),
            text.replace("owner = \"grace\"", &format!("owner = \"{who}\"")),
        )
        .unwrap();
        shipped
    };
    let text = owned("dave").mistakes();
    assert!(text.contains("policy `data` can never be satisfied for any agent"), "{text}");
    assert!(owned("alice").read().is_ok());
}

#[test]
fn guardrails_name_people_groups_actions_and_environments_that_exist() {
    let file = "guardrails.toml";
    for (old, new, named) in [
        ("authors = [\"heidi\"]", "authors = [\"nobody\"]", "authors: `nobody` is not a person"),
        (
            "review_owner = \"security\"",
            "review_owner = \"reviewers\"",
            "break_glass.review_owner: `reviewers`",
        ),
        (
            "[break_glass.signed_by]\napprovals = { sre = 1, security = 1 }",
            "[break_glass.signed_by]\napprovals = { sre = 1, security = 2 }",
            "break_glass.review_owner: all of `security` sign",
        ),
        ("\"scale-asg\"]", "\"scale-moon\"]", "break_glass.actions: `scale-moon`"),
        (
            "environments = [\"production\", \"staging\"]",
            "environments = [\"moon\"]",
            "break_glass.environments: `moon`",
        ),
        (
            "per = [\"run\"]\n",
            "per = [\"run\"]\nenvironments = [\"moon\"]\n",
            "budgets.run-changes.environments: `moon`",
        ),
        (
            "approvals = { sre = 1, security = 1 }",
            "approvals = { sre = 1, moon = 1 }",
            "administration.unfreeze: asks for `moon`, which is not a group",
        ),
        (
            "approvals = { sre = 1, security = 1 }",
            "approvals = { database = 2 }",
            "administration.unfreeze: can never be satisfied",
        ),
        (
            "[break_glass.signed_by]\napprovals = { sre = 1, security = 1 }",
            "[break_glass.signed_by]\napprovals = { security = 3 }",
            "break_glass.signed_by: can never be satisfied",
        ),
    ] {
        let text = Shipped::copy().with(file, old, new).mistakes();
        assert!(text.starts_with(&format!("{file}: {named}")), "{new}: {text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }
}

#[test]
fn a_rule_that_separates_authors_needs_to_know_them_and_must_do_without_them() {
    let authors = |who: &str| {
        Shipped::copy().with("guardrails.toml", "authors = [\"heidi\"]", &format!("authors = [{who}]"))
    };
    let text = authors("").mistakes();
    assert!(text.contains("administration.unfreeze: ") && text.contains("say who wrote the rules"), "{text}");
    let text = authors("\"erin\", \"dave\"").mistakes();
    assert!(text.contains("administration.unfreeze: can never be satisfied without the authors"), "{text}");
    let text = authors("\"erin\"").mistakes();
    assert!(!text.contains("administration.unfreeze"), "dave is left: {text}");
    let together =
        authors("").with("guardrails.toml", "separate_authors = true", "separate_authors = false").mistakes();
    assert!(!together.contains("administration.unfreeze"), "{together}");
}

#[test]
fn a_key_that_signs_alerts_is_nobody_elses() {
    let source =
        "keys = [{ kty = \"OKP\", crv = \"Ed25519\", x = \"jIZ-umXlzeOaGozLjh589nstsqGzv8YDsTQDXfvTwd0\" }]";
    let with = |key: &str| Shipped::copy().with("guardrails.toml", source, &format!("keys = [{key}]"));
    let shipped = Shipped::copy();
    let directory = fs::read_to_string(shipped.path("directory.toml")).unwrap();
    let person = directory.lines().find_map(|line| line.strip_prefix("jwk = ")).unwrap();
    assert!(with(person).mistakes().contains("alerts.alertmanager.keys: key"));
    let agent = directory.lines().find_map(|line| line.strip_prefix("keys = [")).unwrap();
    assert!(with(agent.trim_end_matches(']')).mistakes().contains("alerts.alertmanager.keys: key"));
    let broker = fs::read_to_string(shipped.path("phasebroker.toml")).unwrap();
    let resource = broker.lines().find_map(|line| line.strip_prefix("keys = [")).unwrap().to_owned();
    assert!(with(resource.trim_end_matches(']')).mistakes().contains("resources[0].keys: key"));
}

#[test]
fn a_reload_checks_keys_and_probes_as_a_start_does() {
    let shipped = Shipped::copy();
    let config = shipped.read().unwrap();
    assert!(config.reread_rules().is_ok());
    let guardrails = fs::read_to_string(shipped.path("guardrails.toml")).unwrap();
    let broker = fs::read_to_string(shipped.path("phasebroker.toml")).unwrap();
    let resource = broker.lines().find_map(|line| line.strip_prefix("keys = [")).unwrap();
    let taken = guardrails
        .lines()
        .map(|line| match line.starts_with("keys = [") {
            true => format!("keys = [{resource}"),
            false => line.to_owned(),
        })
        .collect::<Vec<_>>();
    fs::write(shipped.path("guardrails.toml"), taken.join("\n")).unwrap();
    assert!(config.reread_rules().unwrap_err().to_string().contains("resources[0].keys: key"));
    let probing = guardrails.replace("\n#", "\n").replace("\n ", "\n# ");
    fs::write(shipped.path("guardrails.toml"), probing).unwrap();
    let text = config.reread_rules().unwrap_err().to_string();
    assert!(text.contains("probes.ecs-running.aws: is read from AWS, and there is no identity"), "{text}");
}

#[test]
fn what_reads_for_probes_neither_mints_nor_revokes() {
    let section = |probe: &str| {
        Shipped::copy().top(
            "[limits]",
            &format!(
                "[aws]\nregion = \"eu-central-1\"\nmint_profile = \"a\"\nrevoke_profile = \"b\"\n{probe}\n{STAGING}[limits]"
            ),
        )
    };
    for other in ["a", "b"] {
        let text = section(&format!("probe_profile = \"{other}\"")).mistakes();
        assert!(text.contains("aws.probe_profile: must be neither"), "{text}");
    }
    let read = section("probe_profile = \"c\"").read().unwrap();
    assert_eq!(read.aws.unwrap().probe_profile.as_deref(), Some("c"));
    let endpoint = "probe_profile = \"c\"\nprobe_endpoint = \"http://127.0.0.1:5000\"\n";
    assert!(section(endpoint).mistakes().contains("aws.probe_endpoint: is refused unless"));
    assert!(section(&format!("{endpoint}allow_endpoints = [\"probe\"]")).read().is_ok());
}

#[test]
fn what_reads_for_doctor_is_an_identity_of_its_own() {
    let section = |more: &str| {
        let two = "mint_profile = \"a\"\nrevoke_profile = \"b\"\nprobe_profile = \"c\"\n";
        Shipped::copy()
            .top("[limits]", &format!("[aws]\nregion = \"eu-central-1\"\n{two}{more}\n{STAGING}[limits]"))
    };
    for other in ["a", "b", "c"] {
        let text = section(&format!("doctor_profile = \"{other}\"")).mistakes();
        assert!(text.contains("aws.doctor_profile: must be a profile of its own"), "{text}");
    }
    let text = section("doctor_profile = \"staging\"").mistakes();
    assert!(text.contains("aws.doctor_profile: must neither mint nor revoke"), "{text}");
    let read = section("doctor_profile = \"d\"").read().unwrap();
    assert_eq!(read.aws.unwrap().doctor_profile.as_deref(), Some("d"));
    let endpoint = "cloudtrail_endpoint = \"http://127.0.0.1:5000\"\n";
    assert!(section(endpoint).mistakes().contains("aws.cloudtrail_endpoint: is refused unless"));
    assert!(section(&format!("{endpoint}allow_endpoints = [\"cloudtrail\"]")).read().is_ok());
}

fn with_exports(text: &str) -> Shipped {
    Shipped::copy().top("[log]\n", &format!("{text}\n[log]\n"))
}

#[test]
fn every_kind_of_sink_is_read() {
    let shipped = with_exports(
        r#"[[exports]]
name = "web-hook"
kind = "webhook"
url = "https://siem.example/events"
body = "array"
secret_file = "catalog.toml"
[[exports]]
name = "local"
kind = "syslog"
url = "unix:///dev/log"
from_start = true
[[exports]]
name = "out"
kind = "stdout"
format = "ocsf"
[[exports]]
name = "push"
kind = "caep-push"
url = "http://127.0.0.1:9/caep"
audience = "https://receiver.example"
[caep]
poll = ["http://127.0.0.1:8478"]
[[caep.transmitters]]
issuer = "https://idp.example"
people = true
jwks_url = "https://idp.example/jwks"
algorithms = ["ES256"]"#,
    );
    let config = shipped.read().unwrap();
    assert!(matches!(&config.exports[0].to, ExportTo::Webhook { array: true, secret: Some(secret), .. }
        if secret.header == "authorization"));
    assert!(config.exports[1].from_start);
    assert_eq!(config.exports[1].to, ExportTo::Syslog(SyslogAddress::Unix("/dev/log".into())));
    assert_eq!(config.exports[2].to, ExportTo::Stdout);
    assert!(matches!(config.exports[3].to, ExportTo::CaepPush { .. }));
    assert!(!config.caep.receivers[0].all);
    let transmitter = &config.caep.transmitters[0];
    assert!(transmitter.people && transmitter.subjects_of.contains("https://idp.example"));
    assert_eq!(transmitter.issuer.audience, config.issuer);
}

#[test]
fn a_mistake_in_a_sink_or_a_transmitter_is_named() {
    let file = "[[exports]]\nname = \"file\"\nkind = \"file\"\n";
    for (text, named) in [
        (file.to_owned(), "exports[0].path: is needed"),
        (format!("{file}path = \"no/such/folder/x\""), "exports[0].path: `no/such/folder/x` must be"),
        (format!("{file}path = \"x\"\nurl = \"https://a\""), "exports[0].url: is no key of kind \"file\""),
        (format!("{file}path = \"x\"\nkey = 1"), "exports[0].key: unknown field"),
        (format!("{file}path = \"x\"\n{file}path = \"y\""), "exports[1].name: `file` is there twice"),
        (format!("{file}path = \"x\"").replace("\"file\"\nk", "\"A file\"\nk"), "exports[0].name: must be"),
        (file.replace("kind = \"file\"", "kind = \"pigeon\""), "exports[0].kind: unknown variant"),
        ("[[exports]]\nname = \"hook\"\nkind = \"webhook\"\nurl = \"http://siem.example\"".into(), "exports[0].url: `http://siem.example` must be an https URL"),
        ("[[exports]]\nname = \"hook\"\nkind = \"webhook\"\nurl = \"https://a.example\"\nheader = \"x-key\"".into(), "exports[0].header: needs `secret_file`"),
        ("[[exports]]\nname = \"hook\"\nkind = \"webhook\"\nurl = \"https://a.example\"\nsecret_file = \"none\"".into(), "exports[0].secret_file: `none` cannot be read"),
        ("[[exports]]\nname = \"sys\"\nkind = \"syslog\"\nurl = \"udp://host\"".into(), "exports[0].url: must be udp://"),
        ("[caep]\npoll = [\"https://nobody.example\"]".into(), "caep.poll: `https://nobody.example` is no audience"),
        ("[[caep.transmitters]]\nissuer = \"https://idp.example\"\nalgorithms = [\"ES256\"]".into(), "caep.transmitters[0]: needs exactly one of"),
        ("[[caep.transmitters]]\nissuer = \"https://idp.example\"\njwks_url = \"https://a\"\nalgorithms = [\"HS256\"]".into(), "caep.transmitters[0]: "),
        ("[[caep.transmitters]]\nissuer = \"https://idp.example\"\nsecret = \"x\"".into(), "caep.transmitters"),
    ] {
        let mistakes = with_exports(&text).mistakes();
        assert!(mistakes.contains(named), "{text}\n{mistakes}");
    }
}

#[test]
fn an_address_of_a_syslog_is_one_of_three_forms() {
    let named =
        |url: &str| with_exports(&format!("[[exports]]\nname = \"sys\"\nkind = \"syslog\"\nurl = \"{url}\""));
    for good in ["udp://127.0.0.1:514", "tcp://[::1]:601", "unix:///dev/log"] {
        assert!(named(good).read().is_ok(), "{good}");
    }
    for bad in
        ["udp://:514", "tcp://host:0", "tcp://host:99999", "tls://host:1", "unix://dev", "udp://u@host:1"]
    {
        assert!(named(bad).read().is_err(), "{bad}");
    }
}
