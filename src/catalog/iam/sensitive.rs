//! Reads that are more than a look at the state of things, whatever access level AWS gives them: secrets, keys, code and
//! everything that [`vends_or_runs`] names are never an observation; stored data is one only where an observe set lists it.
//!
//! Left readable on purpose: logs, metrics, configuration flags and policies. A secret printed into a log is a leak
//! that happened elsewhere, and an agent that may not read logs cannot find out what is broken; `logs:Unmask`, which
//! undoes the masking of such leaks, is listed. Descriptions that carry environment variables or user data in the
//! clear are listed too, because that is where secrets are found in practice.

use super::reach::{Group, reason_in, vends_or_runs};

/// Says whether an observe set must not simply hold `action` (`service:Name`).
pub fn is_sensitive_read(action: &str) -> bool {
    sensitive_read(action).is_some()
}

/// The reason why an observe set must not simply hold `action`, or `None`: [`never_read`] or [`data_read`].
pub fn sensitive_read(action: &str) -> Option<&'static str> {
    never_read(action).or_else(|| data_read(action))
}

/// The reason why no observation may ever hold `action`, or `None`. Case does not matter, as it does not to IAM.
pub fn never_read(action: &str) -> Option<&'static str> {
    vends_or_runs(action).or_else(|| reason_in(NEVER, action))
}

/// The reason why an observe set has to list `action` to hold it, or `None`; what is never read is not told here.
pub fn data_read(action: &str) -> Option<&'static str> {
    match never_read(action).is_some() || is_observability(action) {
        true => None,
        false => reason_in(DATA, action),
    }
}

/// Says whether `action` shows what anyone may have written: logs, metrics, traces and events, not their settings.
pub fn is_telemetry(action: &str) -> bool {
    let name = action.split_once(':').map_or("", |(_, name)| name).to_ascii_lowercase();
    is_observability(action) && !name.starts_with("describe") && !name.starts_with("list")
}

fn is_observability(action: &str) -> bool {
    let service = action.split_once(':').map_or("", |(service, _)| service);
    OBSERVABILITY.iter().any(|one| one.eq_ignore_ascii_case(service))
}

/// Services that exist to be read while something is broken.
const OBSERVABILITY: &[&str] = &[
    "application-signals",
    "aps",
    "cloudtrail",
    "cloudwatch",
    "internetmonitor",
    "logs",
    "networkflowmonitor",
    "pi",
    "rum",
    "synthetics",
    "xray",
];

const NEVER: &[Group] = &[
    (
        "returns secrets or keys",
        &[
            "secretsmanager:GetSecretValue",
            "secretsmanager:BatchGetSecretValue",
            "ssm:GetParameter*",
            "kms:Decrypt",
            "kms:GenerateDataKey*",
            "acm:ExportCertificate",
            "acm:GetAcme*Credentials",
            "pca-connector-scep:GetChallengePassword",
            "apigateway:GET",
            "appsync:ListApiKeys",
            "wafv2:GetDecryptedAPIKey",
            "states:RevealSecrets",
            "glue:GetConnection*",
            "storagegateway:DescribeChapCredentials",
            "ec2:DescribeVpnConnections",
            "ec2:GetInstanceUefiData",
            "directconnect:DescribeVirtualInterfaces",
            "directconnect:DescribeRouterConfiguration",
            "cognito-idp:DescribeUserPoolClient",
            "cognito-idp:DescribeIdentityProvider",
            "cognito-idp:ListUserPoolClientSecrets",
            "bedrock-agentcore:GetResourceApiKey",
            "chime:ListApiKeys",
            "geo:DescribeKey",
            "geo:ListKeys",
            "iotmanagedintegrations:GetCredentialLocker",
            "ivs:*GetStreamKey",
            "wafv2:ListAPIKeys",
            "ec2:GetVpnConnectionDeviceSampleConfiguration",
            "ec2:Export*ClientConfiguration",
            "iam:GetCredentialReport",
            "logs:Unmask",
            "elasticmapreduce:DescribeCluster",
        ],
    ),
    (
        "returns environment variables or user data, where secrets are often kept",
        &[
            "lambda:GetFunctionConfiguration",
            "lambda:ListFunctions",
            "lambda:ListVersionsByFunction",
            "ecs:DescribeTaskDefinition",
            "ec2:DescribeInstanceAttribute",
            "ec2:DescribeLaunchTemplateVersions",
            "ec2:GetLaunchTemplateData",
            "ec2:DescribeSpotInstanceRequests",
            "autoscaling:DescribeLaunchConfigurations",
            "codebuild:BatchGetProjects",
            "codebuild:BatchGetBuilds",
            "batch:DescribeJob*",
            "apprunner:DescribeService",
            "amplify:GetApp",
            "elasticbeanstalk:DescribeConfiguration*",
            "glue:GetJob*",
            "airflow:GetEnvironment",
            "amplify:GetBranch",
            "amplify:ListApps",
            "amplify:ListBranches",
            "cloudformation:GetTemplate",
            "cloudfront:GetDistribution*",
            "codebuild:BatchGetSandboxes",
            "elasticmapreduce:DescribeStep",
            "elasticmapreduce:ListSteps",
            "kafkaconnect:DescribeConnector",
            "kinesisanalytics:DescribeApplication*",
            "lightsail:GetContainerService*",
            "sagemaker:DescribeModel",
            "sagemaker:Describe*Job",
        ],
    ),
    (
        "returns code or images",
        &[
            "lambda:GetFunction",
            "lambda:GetLayerVersion*",
            "ecr:GetDownloadUrlForLayer",
            "ecr:BatchGetImage",
            "codecommit:GetFile",
            "codecommit:GetFolder",
            "codecommit:GetBlob",
            "codecommit:GetDifferences",
            "codecommit:GitPull",
            "codeartifact:GetPackageVersionAsset",
            "codeartifact:ReadFromRepository",
            "schemas:ExportSchema",
            "sqlworkbench:ExportNotebook",
        ],
    ),
    ("calls tools or models, whatever they then do", &["*:Invoke*", "*:Call*", "*:ExecuteAPI"]),
];

// Verbs that fetch contents are taken of every service: a false hit costs one line of configuration.
const DATA: &[Group] = &[(
    "returns stored data",
    &[
        "*:Query",
        "*:Query*Data",
        "*:Query*Rows",
        "*:Query*Records",
        "*:Query*Vectors",
        "*:ExecuteQuery",
        "*:PartiQL*",
        "*:Select*",
        "*:Scan",
        "*:ReadData*",
        "*:Retrieve",
        "*:RetrieveDataExports",
        "*:Retrieve*Records",
        "*:Fetch*",
        "*:Receive*",
        "*:Download*",
        "*:Get*Download*Url*",
        "*:Sample*Data",
        "*:GetObject",
        "*:*GetItem",
        "*:*GetRecord",
        "*:*GetRecords",
        "*:Get*EntityRecords",
        "*:Get*Message*",
        "*:List*Messages",
        "*:Get*Content",
        "*:GetFile",
        "*:Get*Conversation*",
        "*:GetMedia*",
        "*:Get*Results",
        "*:Get*StatementResult*",
        "*:Get*TableData",
        "*:List*Rows",
        "*:Get*Vectors",
        "*:List*Vectors",
        "*:*PropertyValue*",
        "*:GetThingShadow",
        "*:Get*AttachedFile",
        "*:Search*Transcripts",
        "*:Search*Profiles",
        "*:SearchContacts",
        "s3:GetObject*",
        "s3express:*",
        "s3-object-lambda:GetObject*",
        "s3-outposts:GetObject*",
        "dynamodb:ConditionCheckItem",
        "kinesis:SubscribeToShard",
        "athena:GetQueryResults*",
        "athena:StartQueryExecution",
        "neptune-db:Read*",
        "neptune-db:Get*",
        "es:ESHttp*",
        "aoss:APIAccessAll",
        "sdb:GetAttributes",
        "ebs:GetSnapshotBlock",
        "ebs:ListSnapshotBlocks",
        "ebs:ListChangedBlocks",
        "elasticfilesystem:Client*",
        "glacier:GetJobOutput",
        "lakeformation:GetDataAccess",
        "lakeformation:GetWorkUnitResults",
        "cognito-idp:AdminGetUser",
        "cognito-idp:ListUsers*",
        "cognito-sync:ListRecords",
        "cognito-identity:*",
        "ses:GetMessageInsights",
        "workmail:*",
        "workdocs:Get*",
        "workdocs:Download*",
        "states:GetExecutionHistory",
        "states:DescribeExecution",
        "support:Describe*Attachment",
        "support:DescribeCases",
        "support:DescribeCommunications",
        "ssm:*CommandInvocation*",
        "ec2:GetConsole*",
        "cloudsearch:search",
        "cloudfront-keyvaluestore:*Key*",
        "connect:Get*Attributes",
        "connect:GetPromptFile",
        "dynamodb:SearchVectors",
        "finops-agent:GetDocumentContent",
        "healthlake:*",
        "medical-imaging:Get*",
        "medical-imaging:Search*",
        "omics:GetReadSet",
        "omics:GetReference",
        "profile:BatchGet*",
        "profile:*Profile*",
        "qbusiness:List*",
        "ses:GetArchive*",
        "swf:GetWorkflowExecutionHistory",
        "sqlworkbench:Get*Query*",
        "textract:Get*",
        "tnb:Get*Content",
        "transcribe:Get*Job",
        "workmailmessageflow:*",
    ],
)];

#[cfg(test)]
mod tests {
    use super::super::reach::patterns_without_action;
    use super::*;

    #[test]
    fn secrets_data_and_code_are_no_observations() {
        for action in [
            "secretsmanager:GetSecretValue",
            "secretsmanager:BatchGetSecretValue",
            "ssm:GetParameter",
            "ssm:GetParametersByPath",
            "kms:Decrypt",
            "lambda:GetFunction",
            "s3:GetObject",
            "s3:GetObjectVersion",
            "ecr:GetAuthorizationToken",
            "sts:GetSessionToken",
            "rds-db:connect",
            "apigateway:GET",
            "logs:Unmask",
        ] {
            assert!(is_sensitive_read(action), "{action}");
            assert!(is_sensitive_read(&action.to_lowercase()), "{action}");
        }
    }

    #[test]
    fn what_a_diagnosis_needs_stays_readable() {
        for action in [
            "ec2:DescribeInstances",
            "ec2:DescribeInstanceStatus",
            "ec2:DescribeSecurityGroups",
            "ecs:DescribeServices",
            "ecs:ListTaskDefinitions",
            "autoscaling:DescribeAutoScalingGroups",
            "cloudwatch:GetMetricData",
            "logs:FilterLogEvents",
            "logs:GetLogEvents",
            "cloudtrail:LookupEvents",
            "appconfig:GetDeployment",
            "secretsmanager:DescribeSecret",
            "rds:DescribeDBInstances",
            "rds:DescribeDBSnapshots",
            "iam:GetRole",
            "iam:ListAttachedRolePolicies",
            "s3:ListBucket",
            "sqs:GetQueueAttributes",
        ] {
            assert_eq!(sensitive_read(action), None, "{action}");
        }
    }

    #[test]
    fn stored_data_can_be_listed_and_what_is_never_read_cannot() {
        for action in [
            "dynamodb:Query",
            "sqs:ReceiveMessage",
            "s3:GetObject",
            "rds:DownloadDBLogFilePortion",
            "ssm:GetCommandInvocation",
            "kendra:Query",
            "s3tables:GetTableData",
        ] {
            assert!(data_read(action).is_some() && never_read(action).is_none(), "{action}");
        }
        for action in [
            "secretsmanager:GetSecretValue",
            "kms:Decrypt",
            "lambda:GetFunction",
            "lakeformation:GetDataAccess",
            "cognito-identity:GetCredentialsForIdentity",
            "s3express:CreateSession",
            "cognito-idp:DescribeUserPoolClient",
            "eks-mcp:CallReadOnlyTool",
        ] {
            assert!(data_read(action).is_none() && never_read(action).is_some(), "{action}");
        }
    }

    #[test]
    fn telemetry_is_what_anyone_may_have_written_and_not_its_settings() {
        for action in [
            "logs:FilterLogEvents",
            "cloudwatch:GetMetricData",
            "cloudtrail:LookupEvents",
            "XRay:BatchGetTraces",
        ] {
            assert!(is_telemetry(action) && data_read(action).is_none(), "{action}");
        }
        for action in
            ["logs:DescribeLogGroups", "cloudwatch:DescribeAlarms", "ec2:DescribeInstances", "", "logs"]
        {
            assert!(!is_telemetry(action), "{action}");
        }
    }

    #[test]
    fn whatever_vends_or_runs_is_sensitive_too() {
        for action in
            ["lambda:InvokeFunction", "ecr:GetAuthorizationToken", "datazone:GetEnvironmentCredentials"]
        {
            assert_eq!(sensitive_read(action), vends_or_runs(action), "{action}");
        }
    }

    #[test]
    fn every_pattern_names_an_action_that_exists() {
        assert_eq!(patterns_without_action(NEVER), Vec::<&str>::new());
        assert_eq!(patterns_without_action(DATA), Vec::<&str>::new());
    }
}
