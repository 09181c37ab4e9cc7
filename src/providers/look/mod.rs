//! Looks at what probes name: a JSON document over HTTP, or a read of an AWS service. Never follows a redirect, never
//! reads more than 64 KiB, never waits longer than 3 s, and takes nothing but one clear value for an answer.

mod aws;
mod http;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::broker::ports::{AwsPlace, Clock, LookFailed, Looker, Probe, Question};
use crate::providers::aws::Identity;

use aws::AwsReader;

/// For one look, finding credentials included.
const PATIENCE: Duration = Duration::from_secs(3);
/// Largest answer.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// Settings, as resolved from the configuration.
#[derive(Debug, Clone, Default)]
pub struct LookSettings {
    /// How AWS is read; without it, probes of AWS fail.
    pub aws: Option<AwsLook>,
}

/// How AWS is read.
#[derive(Debug, Clone)]
pub struct AwsLook {
    /// The identity that may read what probes name, and nothing else; never the one that mints or revokes.
    pub identity: Identity,
    /// Region of the STS endpoint that says whose account the identity is in.
    pub region: String,
    /// Another STS endpoint, allowed by name in the configuration.
    pub sts_endpoint: Option<String>,
    /// Another endpoint for every read, allowed by name in the configuration.
    pub endpoint: Option<String>,
}

/// Looks for the broker.
pub struct Look {
    client: reqwest::Client,
    aws: Option<AwsReader>,
}

impl Look {
    /// Makes the clients; calls nobody.
    pub async fn new(settings: LookSettings, clock: Arc<dyn Clock>) -> Result<Self, reqwest::Error> {
        // SECURITY: a redirect or a proxy of the environment would let somebody else answer.
        let client = reqwest::Client::builder()
            .timeout(PATIENCE)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()?;
        let aws = match settings.aws {
            Some(aws) => Some(AwsReader::new(aws, client.clone(), clock).await),
            None => None,
        };
        Ok(Self { client, aws })
    }

    async fn answer(&self, question: Question, place: Option<&AwsPlace>) -> Result<Vec<u8>, LookFailed> {
        match question {
            Question::Http(url) => http::answer(self.client.get(url)).await?.good(),
            Question::Aws { call, body } => {
                let reader = self.aws.as_ref().ok_or_else(|| {
                    failed("the broker has no identity to read AWS with; configure `aws.probe_profile`")
                })?;
                let place = place.ok_or_else(|| failed("the environment has no AWS account to read from"))?;
                reader.read(&call, body, place).await
            }
        }
    }
}

#[async_trait]
impl Looker for Look {
    async fn look(
        &self,
        probe: &Probe,
        filling: &BTreeMap<String, String>,
        place: Option<&AwsPlace>,
    ) -> Result<String, LookFailed> {
        let question = probe.question(filling).map_err(|why| LookFailed(why.to_string()))?;
        let answer = tokio::time::timeout(PATIENCE, self.answer(question, place)).await;
        let answer = answer.map_err(|_| failed(&format!("no answer within {} s", PATIENCE.as_secs())))??;
        probe.value(&answer).map_err(LookFailed)
    }
}

fn failed(why: &str) -> LookFailed {
    LookFailed(why.to_owned())
}
