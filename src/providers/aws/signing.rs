//! Signature Version 4 over a plain POST, for the few calls that need no generated client.
//! AWS: IAM User Guide (Signature Version 4 for API requests), General Reference (service endpoints).

use std::time::{Duration, UNIX_EPOCH};

use aws_sdk_sts::config::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use crate::domain::time::Timestamp;

/// The request could not be signed, or holds a header that cannot be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::providers) struct Unsignable;

/// By whom, where and when a request is signed.
pub(in crate::providers) struct Signing<'a> {
    pub(in crate::providers) region: &'a str,
    /// The service's signing name.
    pub(in crate::providers) name: &'a str,
    pub(in crate::providers) at: Timestamp,
    pub(in crate::providers) credentials: Credentials,
}

impl Signing<'_> {
    /// Adds the headers that sign a POST of `body` to `url`.
    pub(in crate::providers) fn sign(
        self,
        url: &str,
        headers: &mut HeaderMap,
        body: &[u8],
    ) -> Result<(), Unsignable> {
        let seconds = u64::try_from(self.at.seconds()).unwrap_or(0);
        let identity = self.credentials.into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(self.region)
            .name(self.name)
            .time(UNIX_EPOCH + Duration::from_secs(seconds))
            .settings(SigningSettings::default())
            .build()
            .map_err(|_| Unsignable)?
            .into();
        let mut named = Vec::new();
        for (name, value) in headers.iter() {
            named.push((name.as_str(), value.to_str().map_err(|_| Unsignable)?));
        }
        let request = SignableRequest::new("POST", url, named.into_iter(), SignableBody::Bytes(body))
            .map_err(|_| Unsignable)?;
        let (instructions, _) = sign(request, &params).map_err(|_| Unsignable)?.into_parts();
        for header in instructions.into_parts().0 {
            put(headers, header.name(), header.value(), header.sensitive())?;
        }
        Ok(())
    }
}

/// Puts one header.
pub(in crate::providers) fn put(
    headers: &mut HeaderMap,
    name: &str,
    value: &str,
    sensitive: bool,
) -> Result<(), Unsignable> {
    let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| Unsignable)?;
    let mut value = HeaderValue::from_str(value).map_err(|_| Unsignable)?;
    value.set_sensitive(sensitive);
    headers.insert(name, value);
    Ok(())
}

/// The DNS suffix of a partition; `None` when it is not known.
pub(in crate::providers) fn suffix(partition: &str) -> Option<&'static str> {
    match partition {
        "aws" | "aws-us-gov" => Some("amazonaws.com"),
        "aws-cn" => Some("amazonaws.com.cn"),
        "aws-eusc" => Some("amazonaws.eu"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signed_request_names_who_where_and_when() {
        let keys = Credentials::new("AKIA", "secret", Some("token".into()), None, "test");
        let at = Timestamp::from_seconds(1_700_000_000);
        let mut headers = HeaderMap::new();
        let signing = Signing { region: "eu-central-1", name: "ec2", at, credentials: keys };
        signing.sign("https://ec2.eu-central-1.amazonaws.com/", &mut headers, b"x").unwrap();
        let said = headers["authorization"].to_str().unwrap();
        assert!(said.contains("Credential=AKIA/20231114/eu-central-1/ec2/aws4_request"), "{said}");
        assert_eq!(headers["x-amz-security-token"], "token");
        assert!(headers["x-amz-security-token"].is_sensitive());
    }

    #[test]
    fn an_unknown_partition_has_no_address() {
        assert_eq!(suffix("aws-cn"), Some("amazonaws.com.cn"));
        assert_eq!(suffix("aws.evil.example"), None);
    }
}
