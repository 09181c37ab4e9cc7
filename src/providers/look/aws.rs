//! Reads of AWS services that speak JSON, signed with SigV4 by an identity of their own.
//! An answer of another account than the action's would be about another thing of the same name: it is refused.
//! AWS: General Reference (service endpoints), IAM User Guide (Signature Version 4).

use std::sync::Arc;

use aws_config::BehaviorVersion;
use aws_config::retry::RetryConfig;
use aws_sdk_sts::config::{Credentials, ProvideCredentials, Region, SharedCredentialsProvider};
use reqwest::header::HeaderMap;
use tokio::sync::Mutex;

use super::http::{self, Answer};
use super::{AwsLook, failed};
use crate::broker::ports::{AwsCall, AwsPlace, Clock, LookFailed};
use crate::providers::aws::signing::{Signing, Unsignable, put, suffix};

/// Services whose endpoint, or signing name, is not their prefix in IAM: prefix, endpoint, signing name.
const OTHER_NAMES: [(&str, &str, &str); 3] =
    [("cloudwatch", "monitoring", "monitoring"), ("ecr", "api.ecr", "ecr"), ("tag", "tagging", "tagging")];

pub(super) struct AwsReader {
    client: reqwest::Client,
    clock: Arc<dyn Clock>,
    credentials: SharedCredentialsProvider,
    sts: aws_sdk_sts::Client,
    endpoint: Option<String>,
    /// Whose account an access key is in, as STS said of the last one used.
    account: Mutex<Option<(String, String)>>,
}

impl AwsReader {
    pub(super) async fn new(settings: AwsLook, client: reqwest::Client, clock: Arc<dyn Clock>) -> Self {
        let credentials = settings.identity.credentials(&settings.region).await;
        let mut config = aws_sdk_sts::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(settings.region))
            .credentials_provider(credentials.clone())
            .retry_config(RetryConfig::disabled());
        config.set_endpoint_url(settings.sts_endpoint);
        let sts = aws_sdk_sts::Client::from_conf(config.build());
        Self { client, clock, credentials, sts, endpoint: settings.endpoint, account: Mutex::default() }
    }

    pub(super) async fn read(
        &self,
        call: &AwsCall,
        body: String,
        place: &AwsPlace,
    ) -> Result<Vec<u8>, LookFailed> {
        let credentials = self.credentials.provide_credentials().await;
        let credentials =
            credentials.map_err(|_| failed("the identity for probes of AWS has no credentials now"))?;
        let account = self.account_of(&credentials).await?;
        if account != place.account {
            return Err(LookFailed(format!(
                "the identity for probes is in the AWS account {account}, and the action in {}",
                place.account
            )));
        }
        let (host, name) = names(&call.service);
        let address = match &self.endpoint {
            Some(endpoint) => format!("{endpoint}/"),
            None => {
                let suffix = suffix(&place.partition)
                    .ok_or_else(|| failed("the environment names no partition of AWS that is known"))?;
                format!("https://{host}.{}.{suffix}/", place.region)
            }
        };
        let url = reqwest::Url::parse(&address).ok().filter(|url| url.as_str() == address);
        let url = url.ok_or_else(|| failed("the region makes no address of AWS"))?;
        let mut headers = HeaderMap::new();
        let content_type = format!("application/x-amz-json-{}", call.json_version);
        for (header, value) in [("content-type", content_type.as_str()), ("x-amz-target", &call.target)] {
            put(&mut headers, header, value, false).map_err(unsignable)?;
        }
        let signing = Signing { region: &place.region, name, at: self.clock.wall(), credentials };
        signing.sign(url.as_str(), &mut headers, body.as_bytes()).map_err(unsignable)?;
        let answer = http::answer(self.client.post(url).headers(headers).body(body)).await?;
        match error_code(&answer) {
            Some(code) => Err(LookFailed(format!("AWS refused the read: {code}"))),
            None => answer.good(),
        }
    }

    async fn account_of(&self, credentials: &Credentials) -> Result<String, LookFailed> {
        let mut known = self.account.lock().await;
        if let Some((key, account)) = known.as_ref()
            && key == credentials.access_key_id()
        {
            return Ok(account.clone());
        }
        let fixed = aws_sdk_sts::config::Builder::default().credentials_provider(credentials.clone());
        let asked = self.sts.get_caller_identity().customize().config_override(fixed).send().await;
        let account = asked.ok().and_then(|answer| answer.account);
        let account = account.ok_or_else(|| {
            failed("STS does not say which AWS account the identity for probes is in; is it still valid?")
        })?;
        *known = Some((credentials.access_key_id().to_owned(), account.clone()));
        Ok(account)
    }
}

fn unsignable(_: Unsignable) -> LookFailed {
    failed("the read could not be signed")
}

/// Endpoint and signing name of a service.
fn names(service: &str) -> (&str, &str) {
    let other = OTHER_NAMES.iter().find(|(prefix, ..)| *prefix == service);
    other.map_or((service, service), |(_, endpoint, name)| (endpoint, name))
}

/// AWS's name of an error, and nothing else of its answer.
fn error_code(answer: &Answer) -> Option<String> {
    if answer.status.is_success() {
        return None;
    }
    let value: serde_json::Value = serde_json::from_slice(&answer.body).ok()?;
    let kind = value.get("__type")?.as_str()?;
    let code = kind.rsplit('#').next().unwrap_or(kind);
    let plain = (1..=64).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_alphanumeric());
    plain.then(|| code.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_those_of_the_service() {
        assert_eq!(names("ecs"), ("ecs", "ecs"));
        assert_eq!(names("cloudwatch"), ("monitoring", "monitoring"));
    }

    #[test]
    fn of_an_error_only_its_code_is_told() {
        let answer = |status: StatusCode, body: &str| Answer { status, body: body.as_bytes().to_vec() };
        use reqwest::StatusCode;
        let denied = r#"{"__type":"com.amazonaws.ecs#AccessDeniedException","message":"secret"}"#;
        let code = error_code(&answer(StatusCode::BAD_REQUEST, denied));
        assert_eq!(code.as_deref(), Some("AccessDeniedException"));
        assert_eq!(error_code(&answer(StatusCode::BAD_REQUEST, r#"{"__type":"a b <c>"}"#)), None);
        assert_eq!(error_code(&answer(StatusCode::OK, denied)), None);
    }
}
