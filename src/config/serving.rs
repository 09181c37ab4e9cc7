//! Who may listen where: loopback, or with a certificate, or behind a declared proxy with an https issuer.

use std::net::{IpAddr, SocketAddr};

use super::mistakes::{ConfigErrors, Source};

/// What decides whether the listener may be opened.
pub(super) struct Serving<'a> {
    /// What the configuration calls it.
    pub(super) key: &'static str,
    pub(super) issuer: &'a str,
    pub(super) listen: SocketAddr,
    pub(super) tls: bool,
    pub(super) behind_proxy: bool,
    pub(super) dev: bool,
}

impl Serving<'_> {
    pub(super) fn check(&self, source: &Source<'_>, errors: &mut ConfigErrors) {
        let Some(url) = url(self.issuer) else {
            return errors.at(
                source,
                self.key,
                format!(
                    "`{}` is not an http or https URL without query, fragment, user and closing slash",
                    self.issuer
                ),
            );
        };
        let loopback = self.listen.ip().is_loopback();
        let https = url.scheme() == "https";
        if (self.tls || self.behind_proxy) && !https {
            errors.at(source, self.key, "must be https with [tls] or [proxy]: it is what callers connect to");
        }
        if !self.tls && !self.behind_proxy {
            if !loopback {
                errors.at(
                    source,
                    "listen",
                    format!(
                        "`{}` is not loopback: add [tls], or declare the proxy in front with `[proxy] behind = true`",
                        self.listen
                    ),
                );
            }
            if https {
                errors.at(
                    source,
                    self.key,
                    "is https, but nothing here terminates TLS: add [tls] or [proxy]",
                );
            } else if !is_loopback(&url) {
                errors.at(source, self.key, "http is for loopback only; use https with [tls] or [proxy]");
            }
        }
        if self.dev && !loopback {
            errors.at(source, "listen", "a configuration marked `dev` listens on loopback only");
        }
        if self.dev && (self.tls || self.behind_proxy) {
            errors.at(source, "dev", "a configuration marked `dev` has neither [tls] nor [proxy]");
        }
    }
}

/// A URL of http or https that says nothing but where; its text is its own canonical spelling.
pub(super) fn url(text: &str) -> Option<reqwest::Url> {
    let url = reqwest::Url::parse(text).ok()?;
    let plain = matches!(url.scheme(), "http" | "https")
        && url.host_str().is_some()
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none()
        && !text.ends_with('/')
        && url.as_str().trim_end_matches('/') == text;
    plain.then_some(url)
}

/// Whether the URL's host is this machine.
pub(super) fn is_loopback(url: &reqwest::Url) -> bool {
    match url.host_str().map(|host| host.trim_matches(['[', ']'])) {
        Some("localhost") => true,
        Some(host) => host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()),
        None => false,
    }
}
