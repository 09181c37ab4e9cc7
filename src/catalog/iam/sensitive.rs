//! Reads that no observe credential gets, whatever access level AWS gives them: secrets, stored data, code, and
//! everything that [`vends_or_runs`] names.
//!
//! Left readable on purpose: logs, metrics, configuration flags and policies. A secret printed into a log is a leak
//! that happened elsewhere, and an agent that may not read logs cannot find out what is broken; `logs:Unmask`, which
//! undoes the masking of such leaks, is listed. Descriptions that carry environment variables or user data in the
//! clear are listed too, because that is where secrets are found in practice.

use super::reach::{Group, reason_in, vends_or_runs};

/// Says whether an observe set must not hold `action` (`service:Name`).
pub fn is_sensitive_read(action: &str) -> bool {
    sensitive_read(action).is_some()
}

/// The reason why an observe set must not hold `action`, or `None`. Case does not matter, as it does not to IAM.
pub fn sensitive_read(action: &str) -> Option<&'static str> {
    reason_in(SENSITIVE, action).or_else(|| vends_or_runs(action))
}

const SENSITIVE: &[Group] = &[
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
        ],
    ),
    (
        "returns stored data",
        &[
            "s3:GetObject*",
            "s3express:*",
            "s3-object-lambda:GetObject*",
            "s3-outposts:GetObject*",
            "dynamodb:GetItem",
            "dynamodb:BatchGetItem",
            "dynamodb:Query",
            "dynamodb:Scan",
            "dynamodb:ConditionCheckItem",
            "dynamodb:GetRecords",
            "dynamodb:PartiQLSelect",
            "dax:GetItem",
            "dax:BatchGetItem",
            "dax:Query",
            "dax:Scan",
            "kinesis:GetRecords",
            "kinesis:SubscribeToShard",
            "kafka-cluster:ReadData",
            "sqs:ReceiveMessage",
            "athena:GetQueryResults*",
            "athena:StartQueryExecution",
            "redshift-data:GetStatementResult*",
            "timestream:Select",
            "neptune-db:Read*",
            "neptune-db:Get*",
            "es:ESHttp*",
            "aoss:APIAccessAll",
            "cassandra:Select",
            "sdb:Select",
            "sdb:GetAttributes",
            "qldb:PartiQLSelect",
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
            "healthlake:*",
            "states:GetExecutionHistory",
            "states:DescribeExecution",
            "support:DownloadAttachment",
        ],
    ),
];

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
            "dynamodb:Scan",
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
    fn whatever_vends_or_runs_is_sensitive_too() {
        for action in
            ["lambda:InvokeFunction", "ecr:GetAuthorizationToken", "datazone:GetEnvironmentCredentials"]
        {
            assert_eq!(sensitive_read(action), vends_or_runs(action), "{action}");
        }
    }

    #[test]
    fn every_pattern_names_an_action_that_exists() {
        assert_eq!(patterns_without_action(SENSITIVE), Vec::<&str>::new());
    }
}
