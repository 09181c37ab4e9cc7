# The permission boundary of each phase role: the same ceiling again, and what holds whatever else is attached, written
# into the role, or granted to a session by a resource. It is one managed policy, because a role has one boundary; a
# ceiling that does not fit in it is too large.
locals {
  # Nothing in a catalog opens these. `phasebroker aws ceiling` refuses a catalog that names one.
  always_denied = [
    "account:*",
    "organizations:*",
    "sts:*",
    "cloudtrail:Delete*",
    "cloudtrail:Put*",
    "cloudtrail:Stop*",
    "cloudtrail:Update*",
    "codeartifact:GetAuthorizationToken",
    "dsql:DbConnect*",
    "ecr-public:GetAuthorizationToken",
    "ecr:GetAuthorizationToken",
    "rds-db:connect",
    "redshift-serverless:GetCredentials",
    "redshift:GetClusterCredentials*",
  ]
  # IAM is for actions of class trust, and for looking.
  denied_to = {
    observe = local.always_denied
    execute = concat(local.always_denied, ["iam:*"])
    trust   = local.always_denied
  }

  # Ours, by name: roles, policies, trail, bucket, topics, rules.
  ours = concat([
    "${local.arn_of_iam}:role${var.path}${var.name_prefix}*",
    "${local.arn_of_iam}:policy${var.path}${var.name_prefix}*",
    "arn:${local.partition}:cloudtrail:*:${local.account}:trail/${var.name_prefix}*",
    "arn:${local.partition}:events:*:${local.account}:rule/${var.name_prefix}*",
    "arn:${local.partition}:s3:::${var.name_prefix}*",
    "arn:${local.partition}:sns:*:${local.account}:${var.name_prefix}*",
  ], [for provider in values(local.identity_providers) : provider.arn])
  # What one of these covers is not written twice; an ARN without a wildcard covers itself alone.
  named_otherwise = [for arn in distinct(concat(local.role_arns, local.protected)) : arn if !anytrue([
    for own in local.ours : endswith(own, "*") ? startswith(arn, trimsuffix(own, "*")) : arn == own
  ])]

  # (Statements of different shapes cannot be the arms of one conditional, but they can be left out of a list.)
  boundary_denies = { for name, role in local.roles : name => [
    for statement in [
      # The catalog has nothing for this role.
      { Sid = "Nothing", Effect = "Deny", Action = "*", Resource = "*" },
      # An explicit Deny: also what a resource grants to everybody, or to the session by its name, is outside.
      { Sid = "Outside", Effect = "Deny", NotAction = local.ceiling_actions[name], Resource = "*" },
      { Sid = "Always", Effect = "Deny", Action = local.denied_to[role.kind], Resource = "*" },
      # A session that the broker did not make is of no use.
      { Sid = "NoLease", Effect = "Deny", Action = "*", Resource = "*", Condition = { Null = { "aws:PrincipalTag/lease" = "true" } } },
      { Sid = "OtherPhase", Effect = "Deny", Action = "*", Resource = "*", Condition = { StringNotEquals = { "aws:PrincipalTag/phase" = role.phase } } },
      { Sid = "Ours", Effect = "Deny", Action = "*", Resource = concat(local.ours, local.named_otherwise) },
      # Ours, by the tag that everything of ours carries, however it is spelled in the call.
      { Sid = "Tagged", Effect = "Deny", Action = "*", Resource = "*", Condition = { StringEquals = { "aws:ResourceTag/phasebroker" = "control" } } },
    ] : statement if contains(local.denies_of[name], statement.Sid)
  ] }
  # Observing changes nothing, and may look at what is ours.
  denies_of = { for name in keys(local.roles) : name => (
    length(local.ceiling_actions[name]) == 0 ? ["Nothing"] :
    local.roles[name].kind == "observe" ? ["Outside", "Always", "NoLease", "OtherPhase"] :
    ["Outside", "Always", "NoLease", "OtherPhase", "Ours", "Tagged"]
  ) }

  boundaries = { for name in keys(local.roles) : name => jsonencode({
    Version   = "2012-10-17"
    Statement = concat(local.ceiling_statements[name], local.boundary_denies[name])
  }) }
}
