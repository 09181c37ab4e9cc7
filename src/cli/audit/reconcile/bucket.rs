//! CloudTrail's log files where CloudTrail puts them: objects of an S3 bucket, listed page by page and read as they come.
//! Needs `s3:ListBucket` on the bucket and `s3:GetObject` on its objects, and nothing else.

use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{Region, SharedCredentialsProvider};
use aws_sdk_s3::error::DisplayErrorContext;

use super::asked::Asked;
use super::reader::{FileReader, Progress};
use super::shown::PassedOver;
use crate::cli::exit::Exit;
use crate::domain::time::Timestamp;
use crate::reconcile::{Kind, Trail, written_at};

/// For one attempt to be answered, and between two pieces of an object.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often what S3 did not answer is asked.
const ATTEMPTS: u32 = 4;

/// Where the files are.
#[derive(Debug, Clone)]
pub(super) struct Bucket {
    pub(super) name: String,
    pub(super) prefix: String,
    pub(super) region: String,
    pub(super) profile: Option<String>,
    pub(super) endpoint: Option<String>,
}

impl Bucket {
    /// Feeds every record under the prefix to the trail; how many objects were read, and what was passed over.
    pub(super) async fn feed(
        &self,
        since: Option<Timestamp>,
        trail: &mut Trail,
        asked: &mut impl Asked,
    ) -> anyhow::Result<(u64, PassedOver)> {
        let client = self.client().await;
        let (mut passed, mut progress, mut next) = (PassedOver::default(), Progress::new(), None);
        let mut read: u64 = 0;
        loop {
            let page = client.list_objects_v2().bucket(&self.name).prefix(&self.prefix);
            let page = page.set_continuation_token(next).send().await;
            let page = page.map_err(|error| self.wrong(&self.prefix, &DisplayErrorContext(error)))?;
            for key in page.contents().iter().filter_map(|object| object.key()) {
                if key.ends_with('/') {
                    continue;
                }
                if Kind::of(key) != Kind::Records {
                    passed.beside = passed.beside.saturating_add(1);
                } else if since.zip(written_at(key)).is_some_and(|(since, at)| at.plus(60) < since) {
                    passed.earlier = passed.earlier.saturating_add(1);
                } else {
                    self.object(&client, key, trail, asked).await?;
                    read = read.saturating_add(1);
                    progress.say(|| format!("read {} records of {} objects", trail.records(), read));
                }
            }
            next = page.next_continuation_token().map(str::to_owned);
            match (page.is_truncated(), &next) {
                (Some(true), Some(_)) => {}
                (Some(true), None) => return Err(self.wrong(&self.prefix, &"the list breaks off")),
                _ => return Ok((read, passed)),
            }
        }
    }

    async fn object(
        &self,
        client: &Client,
        key: &str,
        trail: &mut Trail,
        asked: &mut impl Asked,
    ) -> anyhow::Result<()> {
        let got = client.get_object().bucket(&self.name).key(key).send().await;
        let got = got.map_err(|error| self.wrong(key, &DisplayErrorContext(error)))?;
        let written = got.last_modified().map(|at| Timestamp::from_seconds(at.secs()));
        asked.before_judging(written, trail).await?;
        let mut body = got.body;
        trail.file(key);
        let mut reader = FileReader::default();
        loop {
            let piece = tokio::time::timeout(PATIENCE, body.try_next()).await;
            let piece = piece.map_err(|_| self.wrong(key, &"nothing came for 20 s"))?;
            let Some(piece) = piece.map_err(|error| self.wrong(key, &error))? else { break };
            reader.piece(&piece, trail).map_err(|error| self.wrong(key, &error))?;
        }
        reader.end(trail).map_err(|error| self.wrong(key, &error))
    }

    async fn client(&self) -> Client {
        let region = Region::new(self.region.clone());
        let credentials = match &self.profile {
            Some(profile) => {
                let provider = ProfileFileCredentialsProvider::builder().profile_name(profile);
                SharedCredentialsProvider::new(provider.build())
            }
            None => {
                let chain = DefaultCredentialsChain::builder().region(region.clone());
                SharedCredentialsProvider::new(chain.build().await)
            }
        };
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(PATIENCE)
            .operation_attempt_timeout(PATIENCE)
            .read_timeout(PATIENCE);
        let mut config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(region)
            .credentials_provider(credentials)
            .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
            .timeout_config(timeouts.build())
            .force_path_style(self.endpoint.is_some());
        config.set_endpoint_url(self.endpoint.clone());
        Client::from_conf(config.build())
    }

    fn wrong(&self, key: &str, why: &dyn std::fmt::Display) -> anyhow::Error {
        let key: String = key.chars().take(300).collect();
        Exit::Usage.because(format!("cannot read s3://{}/{}: {why}", self.name, key.escape_default()))
    }
}
