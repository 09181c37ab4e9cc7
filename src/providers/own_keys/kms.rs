//! A key in AWS KMS. Calls are bounded in time; a signature of KMS is idempotent, so that one more try is safe.

use async_trait::async_trait;
use aws_sdk_kms::config::retry::RetryConfig;
use aws_sdk_kms::config::{BehaviorVersion, Region};
use aws_sdk_kms::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_kms::operation::RequestId as _;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{KeyUsageType, MessageType, SigningAlgorithmSpec};

use super::{CannotOpen, fixed, from_info};
use crate::broker::ports::{SignError, Signer};
use crate::domain::key::{Algorithm, PublicKey};
use crate::providers::aws::{Identity, Timeouts};

/// The longest message that KMS takes whole (https://docs.aws.amazon.com/kms/latest/APIReference/API_Sign.html).
const RAW_BYTES: usize = 4_096;

/// Which key, and who asks.
#[derive(Debug, Clone)]
pub struct KmsSettings {
    /// Key id, ARN or alias.
    pub key: String,
    /// Its region.
    pub region: String,
    /// Who may use it.
    pub identity: Identity,
    /// Another endpoint, allowed by name in the configuration.
    pub endpoint: Option<String>,
}

/// A key in KMS.
pub struct KmsSigner {
    client: aws_sdk_kms::Client,
    key: String,
    public: PublicKey,
}

impl KmsSigner {
    /// Asks for the public half; what is signed must verify under that from then on.
    pub async fn open(settings: &KmsSettings) -> Result<Self, CannotOpen> {
        let client = client(settings).await;
        let asked = client.get_public_key().key_id(&settings.key).send().await;
        let answer = asked.map_err(|error| CannotOpen(told(&error)))?;
        if answer.key_usage() != Some(&KeyUsageType::SignVerify) {
            return Err(CannotOpen("its usage is not SIGN_VERIFY".into()));
        }
        let public = from_info(answer.public_key().map(Blob::as_ref).unwrap_or_default()).map_err(|_| {
            CannotOpen(format!(
                "its kind is {}; ECC_NIST_P256 and ECC_NIST_EDWARDS25519 are used",
                answer.key_spec().map_or("not said", |spec| spec.as_str())
            ))
        })?;
        Ok(Self { client, key: settings.key.clone(), public })
    }
}

#[async_trait]
impl Signer for KmsSigner {
    fn public(&self) -> &PublicKey {
        &self.public
    }

    async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        // KMS hashes by itself what it takes whole, and nothing of ours is longer.
        if message.len() > RAW_BYTES {
            return Err(SignError(format!("KMS signs at most {RAW_BYTES} bytes")));
        }
        let algorithm = match self.public.algorithm() {
            Algorithm::ES256 => SigningAlgorithmSpec::EcdsaSha256,
            Algorithm::EdDSA => SigningAlgorithmSpec::Ed25519Sha512,
        };
        let asked = self.client.sign().key_id(&self.key).signing_algorithm(algorithm);
        let asked = asked.message_type(MessageType::Raw).message(Blob::new(message));
        let answer = asked.send().await.map_err(|error| SignError(told(&error)))?;
        let signature = answer.signature().map(Blob::as_ref).unwrap_or_default();
        match self.public.algorithm() {
            Algorithm::EdDSA => Ok(signature.to_vec()),
            Algorithm::ES256 => {
                fixed(signature).ok_or_else(|| SignError("KMS gave no signature in DER".into()))
            }
        }
    }
}

async fn client(settings: &KmsSettings) -> aws_sdk_kms::Client {
    let mut config = aws_sdk_kms::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(settings.region.clone()))
        .credentials_provider(settings.identity.credentials(&settings.region).await)
        .retry_config(RetryConfig::standard().with_max_attempts(2))
        .timeout_config(Timeouts::default().config());
    config.set_endpoint_url(settings.endpoint.clone());
    aws_sdk_kms::Client::from_conf(config.build())
}

/// The code and the message of AWS, or what kept the call from arriving.
fn told<E, R>(error: &SdkError<E, R>) -> String
where
    SdkError<E, R>: ProvideErrorMetadata + std::error::Error + aws_sdk_kms::operation::RequestId,
{
    match error.code() {
        Some(code) => {
            let request = error.request_id().unwrap_or("unknown");
            format!("KMS answers {code}: {} (request {request})", error.message().unwrap_or("no reason"))
        }
        None => format!("KMS cannot be asked: {}", DisplayErrorContext(error)),
    }
}
