//! Everything the child finds its credential by: the endpoint, the token file beside it, and the variables that name them.
//! The directory is its owner's alone and gone when the surface is closed.

use std::ffi::OsString;
use std::fs::{OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;

use super::endpoint::Endpoint;
use super::held::{Credential, Held, Source};
use crate::broker::ports::Clock;

/// An open surface.
pub struct Surface {
    endpoint: Endpoint,
    dir: TempDir,
    variables: Vec<(String, OsString)>,
}

/// An AWS service's endpoint, given explicitly: `SERVICE=URL`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwsEndpoint {
    /// `AWS_ENDPOINT_URL_<SERVICE>`.
    variable: String,
    url: String,
}

impl std::str::FromStr for AwsEndpoint {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (service, url) = text.split_once('=').ok_or("write SERVICE=URL, such as s3=https://…")?;
        let fits = |c: char| c.is_ascii_alphanumeric() || ['-', '_', ' '].contains(&c);
        if service.is_empty() || !service.chars().all(fits) {
            return Err(format!("`{}` is not the name of an AWS service", service.escape_default()));
        }
        if !url.starts_with("https://") && !url.starts_with("http://") {
            return Err("the endpoint must be an http or https URL".to_owned());
        }
        let service = service.to_ascii_uppercase().replace(['-', ' '], "_");
        Ok(Self { variable: format!("AWS_ENDPOINT_URL_{service}"), url: url.to_owned() })
    }
}

impl Surface {
    /// Opens a surface for the credentials of `source`, of which `first` is the one now; `issuer` is the broker.
    pub async fn open(
        source: Arc<dyn Source>,
        first: &Held,
        clock: Arc<dyn Clock>,
        issuer: &str,
        endpoints: &[AwsEndpoint],
    ) -> std::io::Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("phasebroker-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(runtime_dir())?;
        let endpoint = Endpoint::start(source, clock, issuer).await?;
        let token = dir.path().join("token");
        // No line feed at the end: SDKs send the file's bytes as a header and refuse one with a line feed.
        private_file(&token, endpoint.token().expose().as_bytes())?;
        let mut variables: Vec<(String, OsString)> = Vec::new();
        let mut set = |name: &str, value: OsString| variables.push((name.to_owned(), value));
        // SECURITY: whatever the child is given, the machine's own AWS identities are not its to use. A profile in HOME
        // would also win over the endpoint, and botocore reads boto's own old file before it.
        let (config, shared) = (dir.path().join("config"), dir.path().join("credentials"));
        private_file(&config, b"")?;
        private_file(&shared, b"")?;
        set("AWS_EC2_METADATA_DISABLED", "true".into());
        set("BOTO_CONFIG", config.clone().into());
        set("AWS_CONFIG_FILE", config.into());
        set("AWS_SHARED_CREDENTIALS_FILE", shared.into());
        match first.credential() {
            Credential::Aws(session) => {
                set("AWS_CONTAINER_CREDENTIALS_FULL_URI", endpoint.url().into());
                set("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token.into());
                set("AWS_REGION", session.region.clone().into());
                set("AWS_DEFAULT_REGION", session.region.clone().into());
                for endpoint in endpoints {
                    set(&endpoint.variable, endpoint.url.clone().into());
                }
            }
            Credential::Token { .. } => {
                set("PHASEBROKER_CREDENTIAL_URL", endpoint.url().into());
                set("PHASEBROKER_CREDENTIAL_TOKEN_FILE", token.into());
            }
        }
        Ok(Self { endpoint, dir, variables })
    }

    /// The variables that the child gets.
    pub fn variables(&self) -> &[(String, OsString)] {
        &self.variables
    }

    /// Where the credential is served.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Stops serving and removes the directory.
    pub async fn close(self) -> std::io::Result<()> {
        self.endpoint.close().await;
        self.dir.close()
    }
}

/// The user's own directory in memory, where there is one.
fn runtime_dir() -> PathBuf {
    match std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from) {
        Some(dir) if dir.is_absolute() && dir.is_dir() => dir,
        _ => std::env::temp_dir(),
    }
}

fn private_file(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(bytes)
}
