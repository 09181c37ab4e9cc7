//! What the child may know of our environment: no credential of ours, none of the machine's, no broker login.

use std::ffi::{OsStr, OsString};

/// The loopback endpoint must be reached directly: a proxy would see the credential.
const DIRECT: &str = "127.0.0.1";

/// The child's whole environment: `vars` without every `AWS_*`, `PHASEBROKER_*` and `SSH_AUTH_SOCK`, then `additions`.
pub fn child_environment(
    vars: impl IntoIterator<Item = (OsString, OsString)>,
    additions: &[(String, OsString)],
) -> Vec<(OsString, OsString)> {
    let mut kept: Vec<(OsString, OsString)> = vars.into_iter().filter(|(name, _)| !is_ours(name)).collect();
    let proxied =
        kept.iter().any(|(name, _)| name.to_string_lossy().to_ascii_lowercase().ends_with("_proxy"));
    if proxied {
        for name in ["NO_PROXY", "no_proxy"] {
            match kept.iter_mut().find(|(known, _)| known == name) {
                Some((_, direct)) if direct.is_empty() => *direct = DIRECT.into(),
                Some((_, direct)) => direct.push(format!(",{DIRECT}")),
                None => kept.push((name.into(), DIRECT.into())),
            }
        }
    }
    kept.retain(|(name, _)| !additions.iter().any(|(added, _)| name == OsStr::new(added)));
    kept.extend(additions.iter().map(|(name, value)| (name.into(), value.clone())));
    kept
}

// SECURITY: by prefix, not by list: a credential variable that an SDK learns tomorrow is removed today.
fn is_ours(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.starts_with(b"AWS_") || name.starts_with(b"PHASEBROKER_") || name == b"SSH_AUTH_SOCK"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scrubbed(vars: &[(&str, &str)], additions: &[(&str, &str)]) -> Vec<(String, String)> {
        let vars = vars.iter().map(|(n, v)| (OsString::from(n), OsString::from(v)));
        let additions: Vec<_> = additions.iter().map(|(n, v)| (n.to_string(), OsString::from(v))).collect();
        let text = |s: OsString| s.into_string().unwrap();
        child_environment(vars, &additions).into_iter().map(|(n, v)| (text(n), text(v))).collect()
    }

    #[test]
    fn every_credential_variable_goes_and_everything_else_stays() {
        let vars = [
            ("PATH", "/bin"),
            ("HOME", "/home/a"),
            ("AWS_ACCESS_KEY_ID", "x"),
            ("AWS_PROFILE", "admin"),
            ("AWS_ENDPOINT_URL_STS", "http://evil"),
            ("AWS_SOMETHING_OF_TOMORROW", "x"),
            ("SSH_AUTH_SOCK", "/s"),
            ("PHASEBROKER_AGENT_KEY", "/k"),
            ("LAWS_OF_PHYSICS", "kept"),
        ];
        let kept: Vec<_> = scrubbed(&vars, &[]).into_iter().map(|(name, _)| name).collect();
        assert_eq!(kept, ["PATH", "HOME", "LAWS_OF_PHYSICS"]);
    }

    #[test]
    fn what_exec_adds_replaces_what_was_there() {
        let vars = [("AWS_REGION", "us-east-1"), ("X", "old")];
        let got = scrubbed(&vars, &[("AWS_REGION", "eu-west-1"), ("X", "new")]);
        assert_eq!(got, [("AWS_REGION".into(), "eu-west-1".into()), ("X".into(), "new".into())]);
    }

    #[test]
    fn a_configured_proxy_never_stands_between_child_and_endpoint() {
        let got = scrubbed(&[("HTTPS_PROXY", "http://p"), ("no_proxy", "a.example")], &[]);
        assert!(got.contains(&("no_proxy".into(), "a.example,127.0.0.1".into())), "{got:?}");
        assert!(got.contains(&("NO_PROXY".into(), "127.0.0.1".into())), "{got:?}");
        assert!(scrubbed(&[("PATH", "/bin")], &[]).len() == 1);
    }
}
