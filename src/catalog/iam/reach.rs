//! Actions that give a caller more than the change they are named after: credentials, another role's power, a place
//! to run code, or a wider policy.
//!
//! They are refused for execute unless the catalog entry names the exception, which the approver then sees. The lists
//! are deliberately wide: a false hit costs one line of configuration, a miss costs an account.

/// The reason why `action` (`service:Name`) reaches further than its own resource, or `None`.
///
/// Case does not matter here, because it does not matter to IAM.
pub fn vends_or_runs(action: &str) -> Option<&'static str> {
    reason_in(REACHING, action)
}

/// A reason and the actions it holds for; `*` in a pattern stands for any characters.
pub(super) type Group = (&'static str, &'static [&'static str]);

pub(super) fn reason_in(groups: &[Group], action: &str) -> Option<&'static str> {
    let action = action.to_ascii_lowercase();
    let holds = |pattern: &&&str| glob(&pattern.to_ascii_lowercase(), &action);
    groups.iter().find(|(_, patterns)| patterns.iter().any(|p| holds(&p))).map(|(reason, _)| *reason)
}

const REACHING: &[Group] = &[
    (
        "vends credentials",
        &[
            "sts:*",
            "iam:CreateAccessKey",
            "iam:UpdateAccessKey",
            "iam:CreateLoginProfile",
            "iam:UpdateLoginProfile",
            "iam:ChangePassword",
            "iam:*ServiceSpecificCredential",
            "iam:UploadSSHPublicKey",
            "iam:UploadSigningCertificate",
            "iam:CreateVirtualMFADevice",
            "iam:EnableMFADevice",
            "iam:DeactivateMFADevice",
            "iam:SendDelegationToken",
            "*:*AuthorizationToken*",
            "*:*AuthToken*",
            "*:*AccessToken*",
            "*:*BearerToken*",
            "*:*FederationToken*",
            "*:*RoleToken",
            "*:*RefreshToken*",
            "*:Get*OpenIdToken*",
            "*:*OAuth2Token*",
            "*:CreateToken*",
            "*:Create*Token",
            "*:Rotate*Token",
            "*:GetConnectionToken",
            "*:GetToken",
            "*:GetChatToken",
            "*:Get*PaymentToken",
            "*:*LoginSession",
            "*:*LoginToken",
            "*:*RegistryLogin",
            "*:*LoginUrl",
            "*:Get*Credentials*",
            "*:Retrieve*Credentials*",
            "*:RequestUploadCredentials",
            "*:*RefreshCredentials",
            "*:*TemporaryCredentials*",
            "*:*Presigned*",
            "*:Get*EmbedUrl*",
            "*:*SessionEndpoint*",
            "*:GetDataAccess",
            "s3express:CreateSession",
            "lightsail:CreateBucketAccessKey",
            "lightsail:GetBucketAccessKeys",
            "lightsail:GetInstanceAccessDetails",
            "lightsail:CreateGUISessionAccessDetails",
            "lightsail:DownloadDefaultKeyPair",
            "lightsail:GetRelationalDatabaseMasterUserPassword",
            "gamelift:GetInstanceAccess",
            "gamelift:GetComputeAccess",
            "ec2:GetPasswordData",
            "ec2:CreateKeyPair",
            "ec2:ImportKeyPair",
            "rds-db:connect",
            "dsql:DbConnect*",
            "elasticache:Connect",
            "memorydb:Connect",
            "cognito-idp:AdminSetUserPassword",
            "cognito-idp:AdminInitiateAuth",
            "ds:ResetUserPassword",
            "workmail:ResetPassword",
            "appsync:CreateApiKey",
            "apigateway:POST",
            "rolesanywhere:CreateProfile",
            "rolesanywhere:CreateTrustAnchor",
            "acm-pca:IssueCertificate",
            "kms:Decrypt",
            "kms:GenerateDataKey*",
            "kms:ReEncrypt*",
            "kms:Sign",
            "secretsmanager:GetSecretValue",
            "secretsmanager:BatchGetSecretValue",
        ],
    ),
    (
        "takes or passes on another role",
        &[
            "*:PassRole",
            "*:ValidatePassRole",
            "*:Assume*",
            "iam:AddRoleToInstanceProfile",
            "ec2:AssociateIamInstanceProfile",
            "ec2:ReplaceIamInstanceProfileAssociation",
        ],
    ),
    (
        "opens a shell or sends commands to a machine",
        &[
            "ssm:SendCommand",
            "ssm:StartSession",
            "ssm:ResumeSession",
            "ssm:StartAutomationExecution",
            "ssm:StartChangeRequestExecution",
            "ssm:CreateAssociation*",
            "ssm:UpdateAssociation",
            "ssm:StartAssociationsOnce",
            "ssm:CreateDocument",
            "ssm:UpdateDocument",
            "ssm:RegisterTaskWithMaintenanceWindow",
            "ssm-guiconnect:*",
            "ssmmessages:*",
            "ec2messages:*",
            "ec2-instance-connect:*",
            "ecs:ExecuteCommand",
            "eks:AccessKubernetesApi",
            "cloudshell:*",
            "cloud9:CreateEnvironment*",
            "*:*CommandShell",
            "*:*AdminShell",
            "*:StartCommandExecution",
            "*:StartGUISession",
            "*:SendProjectSessionAction",
        ],
    ),
    (
        "runs code with another role's power",
        &[
            "lambda:Invoke*",
            "lambda:UpdateFunctionCode",
            "lambda:UpdateFunctionConfiguration",
            "lambda:CreateFunction",
            "lambda:CreateEventSourceMapping",
            "lambda:UpdateEventSourceMapping",
            "lambda:PublishLayerVersion",
            "lambda:RunMicrovm",
            "ec2:RunInstances",
            "ec2:RunScheduledInstances",
            "ec2:RequestSpot*",
            "ec2:CreateFleet",
            "ec2:CreateLaunchTemplate*",
            "ec2:ModifyInstanceAttribute",
            "autoscaling:CreateLaunchConfiguration",
            "ecs:RunTask",
            "ecs:StartTask",
            "ecs:RegisterTaskDefinition",
            "batch:SubmitJob",
            "batch:RegisterJobDefinition",
            "codebuild:StartBuild*",
            "codebuild:CreateProject",
            "codebuild:UpdateProject",
            "codebuild:StartSandbox*",
            "codepipeline:StartPipelineExecution",
            "codedeploy:CreateDeployment",
            "states:StartExecution",
            "states:StartSyncExecution",
            "states:CreateStateMachine",
            "states:UpdateStateMachine",
            "states:InvokeHTTPEndpoint",
            "states:TestState",
            "events:PutTargets",
            "scheduler:CreateSchedule",
            "scheduler:UpdateSchedule",
            "pipes:CreatePipe",
            "pipes:UpdatePipe",
            "pipes:StartPipe",
            "cloudformation:CreateStack",
            "cloudformation:UpdateStack",
            "cloudformation:DeleteStack",
            "cloudformation:CreateStackSet",
            "cloudformation:UpdateStackSet",
            "cloudformation:CreateStackInstances",
            "cloudformation:UpdateStackInstances",
            "cloudformation:CreateChangeSet",
            "cloudformation:ExecuteChangeSet",
            "cloudformation:ExecuteStackRefactor",
            "cloudformation:RegisterType",
            "cloudformation:ActivateType",
            "cloudformation:CreateResource",
            "cloudformation:UpdateResource",
            "cloudformation:DeleteResource",
            "servicecatalog:Provision*",
            "servicecatalog:Execute*",
            "glue:StartJobRun",
            "glue:CreateJob",
            "glue:UpdateJob",
            "glue:CreateDevEndpoint",
            "glue:UpdateDevEndpoint",
            "glue:Run*Statement",
            "glue:CreateSession",
            "elasticmapreduce:RunJobFlow",
            "elasticmapreduce:AddJobFlowSteps",
            "emr-containers:StartJobRun",
            "emr-serverless:StartJobRun",
            "*:StartSession",
            "sagemaker:CreateNotebookInstance*",
            "sagemaker:Create*Job",
            "sagemaker:StartPipelineExecution",
            "datapipeline:PutPipelineDefinition",
            "elasticbeanstalk:CreateEnvironment",
            "elasticbeanstalk:UpdateEnvironment",
            "apprunner:CreateService",
            "apprunner:UpdateService",
            "amplify:StartJob",
            "amplify:StartDeployment",
            "imagebuilder:Start*",
            "bedrock-agentcore:Invoke*",
            "bedrock-agentcore:Start*Session",
            "execute-api:Invoke",
            "events:InvokeApiDestination",
            "rds-data:*Execute*",
            "redshift-data:*ExecuteStatement",
            "budgets:ExecuteBudgetAction",
            "devicefarm:ScheduleRun",
        ],
    ),
    (
        "widens what somebody may do",
        &[
            "iam:Attach*Policy",
            "iam:Put*Policy",
            "iam:PutRolePermissionsBoundary",
            "iam:PutUserPermissionsBoundary",
            "iam:Delete*PermissionsBoundary",
            "iam:CreatePolicy*",
            "iam:SetDefaultPolicyVersion",
            "iam:UpdateAssumeRolePolicy",
            "iam:AddUserToGroup",
            "iam:CreateRole",
            "iam:CreateUser",
            "iam:Create*Provider",
            "iam:Update*Provider*",
            "iam:AddClientIDToOpenIDConnectProvider",
            "kms:CreateGrant",
            "kms:PutKeyPolicy",
            "lambda:AddPermission",
            "lambda:CreateFunctionUrlConfig",
            "lambda:UpdateFunctionUrlConfig",
            "lambda:AddLayerVersionPermission",
            "s3:PutBucketPolicy",
            "s3:PutAccessPointPolicy",
            "sqs:AddPermission",
            "sns:AddPermission",
            "secretsmanager:PutResourcePolicy",
            "ecr:SetRepositoryPolicy",
            "events:PutPermission",
            "eks:CreateAccessEntry",
            "eks:UpdateAccessEntry",
            "eks:AssociateAccessPolicy",
            "eks:CreatePodIdentityAssociation",
            "eks:UpdatePodIdentityAssociation",
            "sso:CreatePermissionSet",
            "sso:UpdatePermissionSet",
            "sso:ProvisionPermissionSet",
            "sso:CreateAccountAssignment",
            "sso:Attach*",
            "sso:Put*",
            "organizations:DetachPolicy",
            "organizations:DisablePolicyType",
            "ram:CreateResourceShare",
            "ram:UpdateResourceShare",
            "ram:AssociateResourceShare",
        ],
    ),
];

/// Matches `*` greedily from the left, coming back to the last one on a mismatch.
fn glob(pattern: &str, text: &str) -> bool {
    let mut pieces = pattern.split('*');
    let Some(mut rest) = pieces.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let mut pieces = pieces.peekable();
    if pieces.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(piece) = pieces.next() {
        if pieces.peek().is_none() {
            return rest.ends_with(piece);
        }
        match rest.split_once(piece) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    true
}

#[cfg(test)]
pub(super) fn patterns_without_action(groups: &[Group]) -> Vec<&'static str> {
    let table = super::ActionTable::embedded().unwrap();
    let all: Vec<String> = table.all().map(|(s, n)| format!("{s}:{n}").to_ascii_lowercase()).collect();
    let patterns = groups.iter().flat_map(|(_, patterns)| patterns.iter().copied());
    patterns.filter(|p| !all.iter().any(|action| glob(&p.to_ascii_lowercase(), action))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_that_vend_pass_or_run_are_named_with_a_reason() {
        for (action, reason) in [
            ("sts:AssumeRole", "vends credentials"),
            ("sts:GetCallerIdentity", "vends credentials"),
            ("iam:CreateAccessKey", "vends credentials"),
            ("iam:CreateLoginProfile", "vends credentials"),
            ("ecr:GetAuthorizationToken", "vends credentials"),
            ("codeartifact:GetAuthorizationToken", "vends credentials"),
            ("redshift:GetClusterCredentialsWithIAM", "vends credentials"),
            ("sagemaker:CreatePresignedDomainUrl", "vends credentials"),
            ("rds-db:connect", "vends credentials"),
            ("iam:PassRole", "takes or passes on another role"),
            ("deadline:AssumeQueueRoleForUser", "takes or passes on another role"),
            ("ssm:SendCommand", "opens a shell or sends commands to a machine"),
            ("ssm:StartSession", "opens a shell or sends commands to a machine"),
            ("ecs:ExecuteCommand", "opens a shell or sends commands to a machine"),
            ("ec2-instance-connect:SendSSHPublicKey", "opens a shell or sends commands to a machine"),
            ("lambda:UpdateFunctionCode", "runs code with another role's power"),
            ("lambda:InvokeFunction", "runs code with another role's power"),
            ("iam:AttachRolePolicy", "widens what somebody may do"),
            ("iam:PutUserPolicy", "widens what somebody may do"),
        ] {
            assert_eq!(vends_or_runs(action), Some(reason), "{action}");
            assert_eq!(vends_or_runs(&action.to_uppercase()), Some(reason), "{action}");
        }
    }

    #[test]
    fn ordinary_repairs_are_not_held_up() {
        for action in [
            "ec2:RebootInstances",
            "ec2:ModifyNetworkInterfaceAttribute",
            "ecs:UpdateService",
            "autoscaling:SetDesiredCapacity",
            "appconfig:CreateHostedConfigurationVersion",
            "appconfig:StartDeployment",
            "secretsmanager:RotateSecret",
            "rds:RestoreDBInstanceFromDBSnapshot",
            "rds:RebootDBInstance",
            "iam:DetachRolePolicy",
            "iam:DetachUserPolicy",
            "sqs:PurgeQueue",
            "cloudformation:ContinueUpdateRollback",
            "",
        ] {
            assert_eq!(vends_or_runs(action), None, "{action}");
        }
    }

    #[test]
    fn every_pattern_names_an_action_that_exists() {
        assert_eq!(patterns_without_action(REACHING), Vec::<&str>::new());
    }

    #[test]
    fn stars_match_any_characters_and_nothing_else_does() {
        for (pattern, text) in [
            ("a:b", "a:b"),
            ("*:get*token*", "x:gettoken"),
            ("a:*c", "a:cc"),
            ("a:*", "a:"),
            ("a*b*c", "aXbbXc"),
        ] {
            assert!(glob(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in
            [("a:b", "a:bc"), ("a:b", "xa:b"), ("a:*c", "a:cd"), ("*:get*", "x:forget"), ("a:*b*b", "a:b")]
        {
            assert!(!glob(pattern, text), "{pattern} {text}");
        }
    }
}
