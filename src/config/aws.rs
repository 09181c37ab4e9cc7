//! The section [aws]: who mints, who revokes and who reads, in which account and through which endpoints.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::resolve::Resolver;
use super::written;

/// AWS: the identities that mint and revoke, each a profile of the shared AWS configuration or the default chain (`None`),
/// and the one that reads for probes, where there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aws {
    /// Region of the STS endpoint.
    pub region: String,
    /// Who assumes the phase roles.
    pub mint_profile: Option<String>,
    /// Who writes the Deny policies; never the same. Of one account: further ones are in `accounts`.
    pub revoke_profile: Option<String>,
    /// Who reads what probes name; never one of the others, never the default chain.
    pub probe_profile: Option<String>,
    /// Who reads for `doctor`; never one of the others.
    pub doctor_profile: Option<String>,
    /// Accounts with a revoker of their own.
    pub accounts: Vec<AwsAccount>,
    /// Another STS endpoint, allowed by name.
    pub sts_endpoint: Option<String>,
    /// Another IAM endpoint, allowed by name.
    pub iam_endpoint: Option<String>,
    /// Another EC2 endpoint for the calls of canaries, allowed by name.
    pub ec2_endpoint: Option<String>,
    /// Another endpoint for the reads of probes, allowed by name.
    pub probe_endpoint: Option<String>,
    /// Another CloudTrail endpoint, allowed by name.
    pub cloudtrail_endpoint: Option<String>,
    /// Who signs the tokens of sessions for work, where an environment has a web identity.
    pub countersigner: Option<CountersignerAccess>,
    /// STS calls a second in the long run.
    pub sts_calls_per_second: u32,
    /// STS calls at once.
    pub sts_burst: u32,
}

/// Where the countersigner is, and how the broker proves itself to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CountersignerAccess {
    /// Its URL.
    pub url: String,
    /// File of the Ed25519 key with which the broker proves itself.
    pub key: PathBuf,
    /// File of the certificate authority, where it is not a public one.
    pub ca: Option<PathBuf>,
}

/// What differs in one account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwsAccount {
    /// Twelve digits.
    pub account: String,
    /// Who writes the Deny policies there.
    pub revoke_profile: String,
    /// Who assumes the phase roles there, where it is somebody else.
    pub mint_profile: Option<String>,
    /// Who reads there for `doctor`; never one of the others.
    pub doctor_profile: Option<String>,
    /// Region of the STS endpoint for it, where it is another one.
    pub region: Option<String>,
}

impl Aws {
    /// Which of these accounts nobody could revoke in: `revoke_profile` is of one account, whichever it is.
    pub(super) fn without_revoker<'a>(&self, accounts: BTreeSet<&'a str>) -> Option<BTreeSet<&'a str>> {
        let given = |account: &&str| self.accounts.iter().any(|own| own.account == *account);
        let left: BTreeSet<&str> = accounts.into_iter().filter(|account| !given(account)).collect();
        (left.len() > 1).then_some(left)
    }
}

impl Resolver<'_> {
    pub(super) fn aws(&mut self, aws: written::Aws, dev: bool) -> Aws {
        if dev {
            self.errors.at(&self.source, "aws", "a configuration marked `dev` uses the provider `jwt` only");
        }
        if aws.mint_profile == aws.revoke_profile {
            let problem = "must differ from `mint_profile`: minting and revoking are two identities";
            self.errors.at(&self.source, "aws.revoke_profile", problem);
        }
        self.region("aws.region", &aws.region);
        if aws.probe_profile.is_some()
            && [&aws.mint_profile, &aws.revoke_profile].contains(&&aws.probe_profile)
        {
            let problem =
                "must be neither `mint_profile` nor `revoke_profile`: what reads can do nothing else";
            self.errors.at(&self.source, "aws.probe_profile", problem);
        }
        let others = [&aws.mint_profile, &aws.revoke_profile, &aws.probe_profile];
        if aws.doctor_profile.is_some() && others.contains(&&aws.doctor_profile) {
            let problem = "must be a profile of its own: what reads for doctor can do nothing else";
            self.errors.at(&self.source, "aws.doctor_profile", problem);
        }
        self.endpoints(&aws);
        for (path, number) in
            [("aws.sts_calls_per_second", aws.sts_calls_per_second), ("aws.sts_burst", aws.sts_burst)]
        {
            self.within(path, number, 1, 10_000);
        }
        self.accounts(&aws);
        let countersigner = aws.web_identity.map(|written| {
            self.callable("aws.web_identity.countersigner", &written.countersigner);
            let (key, ca) = (self.path(&written.key), written.ca.map(|ca| self.path(&ca)));
            CountersignerAccess { url: written.countersigner, key, ca }
        });
        let account = |written: written::AwsAccount| AwsAccount {
            account: written.account,
            revoke_profile: written.revoke_profile,
            mint_profile: written.mint_profile,
            doctor_profile: written.doctor_profile,
            region: written.region,
        };
        Aws {
            region: aws.region,
            mint_profile: aws.mint_profile,
            revoke_profile: aws.revoke_profile,
            probe_profile: aws.probe_profile,
            doctor_profile: aws.doctor_profile,
            accounts: aws.accounts.into_iter().map(account).collect(),
            sts_endpoint: aws.sts_endpoint,
            iam_endpoint: aws.iam_endpoint,
            ec2_endpoint: aws.ec2_endpoint,
            probe_endpoint: aws.probe_endpoint,
            cloudtrail_endpoint: aws.cloudtrail_endpoint,
            countersigner,
            sts_calls_per_second: aws.sts_calls_per_second,
            sts_burst: aws.sts_burst,
        }
    }

    fn endpoints(&mut self, aws: &written::Aws) {
        let known = ["sts", "iam", "ec2", "probe", "cloudtrail"];
        for name in aws.allow_endpoints.iter().filter(|name| !known.contains(&name.as_str())) {
            let problem = format!("`{name}` is none of `sts`, `iam`, `ec2`, `probe` and `cloudtrail`");
            self.errors.at(&self.source, "aws.allow_endpoints", problem);
        }
        let overrides = [
            ("sts", &aws.sts_endpoint),
            ("iam", &aws.iam_endpoint),
            ("ec2", &aws.ec2_endpoint),
            ("probe", &aws.probe_endpoint),
            ("cloudtrail", &aws.cloudtrail_endpoint),
        ];
        for (name, endpoint) in overrides {
            let Some(endpoint) = endpoint else { continue };
            let path = format!("aws.{name}_endpoint");
            if !aws.allow_endpoints.iter().any(|allowed| allowed == name) {
                let problem = format!("is refused unless `aws.allow_endpoints` names \"{name}\"");
                self.errors.at(&self.source, &path, problem);
            }
            self.callable(&path, endpoint);
        }
    }

    fn accounts(&mut self, aws: &written::Aws) {
        let minters: Vec<&String> = aws
            .accounts
            .iter()
            .filter_map(|account| account.mint_profile.as_ref())
            .chain(&aws.mint_profile)
            .collect();
        let mut accounts = BTreeSet::new();
        let mut revokers: BTreeSet<&String> = aws.revoke_profile.iter().collect();
        for (at, account) in aws.accounts.iter().enumerate() {
            let path = |key: &str| format!("aws.accounts[{at}].{key}");
            if account.account.len() != 12 || !account.account.bytes().all(|b| b.is_ascii_digit()) {
                self.errors.at(&self.source, &path("account"), "an account has twelve digits");
            }
            if !accounts.insert(&account.account) {
                let problem = format!("`{}` is given twice", account.account);
                self.errors.at(&self.source, &path("account"), problem);
            }
            if account.revoke_profile.is_empty() || account.mint_profile.as_deref() == Some("") {
                self.errors.at(&self.source, &path("revoke_profile"), "a profile has a name");
            }
            if !revokers.insert(&account.revoke_profile) {
                let problem = "revokes elsewhere already: an identity is of one account, and IAM lets it write nowhere else";
                self.errors.at(&self.source, &path("revoke_profile"), problem);
            }
            if let Some(region) = &account.region {
                self.region(&path("region"), region);
            }
            if let Some(doctor) = &account.doctor_profile
                && !Self::reads_alone(aws, at, doctor)
            {
                let problem = "must be a profile of its own: what reads for doctor can do nothing else, and in no other account";
                self.errors.at(&self.source, &path("doctor_profile"), problem);
            }
        }
        for (at, account) in aws.accounts.iter().enumerate() {
            if minters.contains(&&account.revoke_profile) {
                let problem = "mints: minting and revoking are two identities";
                self.errors.at(&self.source, &format!("aws.accounts[{at}].revoke_profile"), problem);
            }
            if account.mint_profile.is_some() && account.mint_profile == aws.revoke_profile {
                let problem = "revokes: minting and revoking are two identities";
                self.errors.at(&self.source, &format!("aws.accounts[{at}].mint_profile"), problem);
            }
            let own = [Some(&account.revoke_profile), account.mint_profile.as_ref()];
            let reading =
                [("aws.probe_profile", &aws.probe_profile), ("aws.doctor_profile", &aws.doctor_profile)];
            for (path, profile) in reading {
                if profile.as_ref().is_some_and(|profile| own.contains(&Some(profile))) {
                    let problem = "must neither mint nor revoke: what reads can do nothing else";
                    self.errors.at(&self.source, path, problem);
                }
            }
        }
    }

    /// Whether the doctor of one account is nobody else.
    fn reads_alone(aws: &written::Aws, at: usize, doctor: &String) -> bool {
        let broker = [&aws.mint_profile, &aws.revoke_profile, &aws.probe_profile, &aws.doctor_profile];
        let own = |account: &written::AwsAccount| {
            account.revoke_profile == *doctor || account.mint_profile.as_ref() == Some(doctor)
        };
        let others = aws.accounts.iter().take(at).any(|one| one.doctor_profile.as_ref() == Some(doctor));
        !broker.iter().any(|profile| profile.as_ref() == Some(doctor))
            && !aws.accounts.iter().any(own)
            && !others
            && !doctor.is_empty()
    }

    /// A region with an STS endpoint of its own: the tokens of the global one do not count in every region.
    fn region(&mut self, path: &str, region: &str) {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let is_region = region.contains('-') && region.bytes().all(plain) && !region.ends_with("-global");
        if !is_region {
            let problem = format!("`{region}` is no region; write one such as `eu-central-1`");
            self.errors.at(&self.source, path, problem);
        }
    }
}
