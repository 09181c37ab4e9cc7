# The account that the broker works in: phase roles, the broker's two identities, keys, trail and alarms. Every document
# comes from modules/policies.
locals {
  home       = values(var.environments)[0]
  account    = local.home.account
  partition  = local.home.partition
  arn_of_iam = "arn:${local.partition}:iam::${local.account}"
  minter     = "${var.name_prefix}minter"
  revoker    = "${var.name_prefix}revoker"
  doctor     = "${var.name_prefix}doctor"
  # The boundaries deny everything that carries this tag.
  tags = merge(var.tags, { phasebroker = "control" })
}

module "policies" {
  source = "../policies"

  environments         = var.environments
  minter_arn           = "${local.arn_of_iam}:role${var.path}${local.minter}"
  revoker_arn          = "${local.arn_of_iam}:role${var.path}${local.revoker}"
  minter_further_roles = var.further_roles
  name_prefix          = var.name_prefix
  path                 = var.path
  watched_regions      = var.watched_regions
  key_administrators   = var.key_administrators
  key_verifiers        = var.auditors
}

module "phase_roles" {
  source = "../phase-roles"

  policies = module.policies
  path     = var.path
  tags     = local.tags

  # IAM takes no trust policy that names a role which does not exist.
  depends_on = [aws_iam_role.minter, aws_iam_openid_connect_provider.approvers]
}

# Whom AWS believes in the place of the approvers' side: who can write under this URL can let it trust another key.
resource "aws_iam_openid_connect_provider" "approvers" {
  for_each = module.policies.identity_providers

  url            = each.value.url
  client_id_list = each.value.audiences
  tags           = local.tags
}

resource "aws_iam_role" "minter" {
  name                 = local.minter
  path                 = var.path
  description          = "Assumes the phase roles of phasebroker, and does nothing else"
  assume_role_policy   = local.broker_trust
  max_session_duration = 3600
  tags                 = local.tags
}

resource "aws_iam_role" "revoker" {
  name                 = local.revoker
  path                 = var.path
  description          = "Writes the Deny policy of the phase roles of phasebroker, and does nothing else"
  assume_role_policy   = local.broker_trust
  max_session_duration = 3600
  tags                 = local.tags
}

resource "aws_iam_policy" "minter" {
  name        = local.minter
  path        = var.path
  description = "What the minter of phasebroker may do"
  policy      = module.policies.minter_policy
  tags        = local.tags
}

resource "aws_iam_policy" "revoker" {
  name        = local.revoker
  path        = var.path
  description = "What the revoker of phasebroker may do"
  policy      = local.revoker_policy
  tags        = local.tags
}

resource "aws_iam_role_policy_attachments_exclusive" "minter" {
  role_name   = aws_iam_role.minter.name
  policy_arns = [aws_iam_policy.minter.arn]
}

resource "aws_iam_role_policy_attachments_exclusive" "revoker" {
  role_name   = aws_iam_role.revoker.name
  policy_arns = [aws_iam_policy.revoker.arn]
}

# Reads what the others are, for `phasebroker doctor`.
resource "aws_iam_role" "doctor" {
  name                 = local.doctor
  path                 = var.path
  description          = "Reads the roles and trails of phasebroker, and does nothing else"
  assume_role_policy   = local.doctor_trust
  max_session_duration = 3600
  tags                 = local.tags
}

resource "aws_iam_policy" "doctor" {
  name        = local.doctor
  path        = var.path
  description = "What the doctor of phasebroker may do"
  policy      = module.policies.doctor_policy
  tags        = local.tags
}

resource "aws_iam_role_policy_attachments_exclusive" "doctor" {
  role_name   = aws_iam_role.doctor.name
  policy_arns = [aws_iam_policy.doctor.arn]
}

# These never have an inline policy; the phase roles have one, which only the revoker writes.
resource "aws_iam_role_policies_exclusive" "broker" {
  for_each = { minter = aws_iam_role.minter.name, revoker = aws_iam_role.revoker.name, doctor = aws_iam_role.doctor.name }

  role_name    = each.value
  policy_names = []
}

resource "aws_kms_key" "signing" {
  for_each = var.signing_keys

  description              = "phasebroker signs with it: ${each.key}"
  key_usage                = "SIGN_VERIFY"
  customer_master_key_spec = each.value
  deletion_window_in_days  = 30
  policy                   = module.policies.key_policies[each.value]
  tags                     = local.tags

  depends_on = [aws_iam_role.minter]
}

resource "aws_kms_alias" "signing" {
  for_each = var.signing_keys

  name          = "alias/${var.name_prefix}${each.key}"
  target_key_id = aws_kms_key.signing[each.key].key_id
}

module "trail" {
  source = "../trail"
  count  = var.trail ? 1 : 0

  name_prefix        = var.name_prefix
  account            = local.account
  partition          = local.partition
  region             = local.home.region
  data_events        = module.policies.data_events
  key_administrators = var.key_administrators
  readers            = var.auditors
  keep_days          = var.trail_keep_days
  tags               = local.tags
}

module "key_changed" {
  source = "../key-pattern"

  arns = concat([for key in aws_kms_key.signing : key.arn], module.trail[*].key_arn)
}

module "watch" {
  source = "../watch"

  patterns           = merge(module.policies.event_patterns, { for name in ["key-changed"] : name => module.key_changed.pattern if length(var.signing_keys) > 0 || var.trail })
  regions            = toset(module.policies.watched_regions)
  name_prefix        = var.name_prefix
  key_administrators = var.key_administrators
  tags               = local.tags
}

locals {
  # The host of the broker becomes one or the other; nothing else may.
  broker_trust = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "Broker"
      Effect    = "Allow"
      Principal = { AWS = sort(var.broker_principals) }
      Action    = "sts:AssumeRole"
    }]
  })

  # The same host, and whoever else looks after the broker.
  doctor_trust = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "Doctor"
      Effect    = "Allow"
      Principal = { AWS = sort(distinct(concat(var.broker_principals, var.doctor_principals))) }
      Action    = "sts:AssumeRole"
    }]
  })

  # In other accounts it becomes their own revoker: IAM takes no policy writes from another account.
  revoker_policy = length(var.further_revokers) == 0 ? module.policies.revoker_policy : jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [for statement in jsondecode(module.policies.revoker_policy).Statement : statement if statement.Sid != "NothingElse"],
      [
        { Sid = "Elsewhere", Effect = "Allow", Action = "sts:AssumeRole", Resource = sort(var.further_revokers) },
        { Sid = "NoStrangers", Effect = "Deny", Action = "sts:AssumeRole", NotResource = sort(var.further_revokers) },
        { Sid = "NothingElse", Effect = "Deny", NotAction = ["iam:DeleteRolePolicy", "iam:GetRolePolicy", "iam:PutRolePolicy", "sts:AssumeRole"], Resource = "*" },
      ]
    )
  })
}
