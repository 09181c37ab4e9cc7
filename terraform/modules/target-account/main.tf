# An account that a broker of another account works in: phase roles that trust the foreign minter with an external id, a
# revoker of its own, and alarms. Apply it with the credentials of this account.
locals {
  home       = values(var.environments)[0]
  account    = local.home.account
  partition  = local.home.partition
  arn_of_iam = "arn:${local.partition}:iam::${local.account}"
  revoker    = "${var.name_prefix}revoker"
  profile    = "${local.revoker}-${local.account}"
  doctor     = "${var.name_prefix}doctor"
  doctored   = length(var.doctor_principals) > 0
  tags       = merge(var.tags, { phasebroker = "control" })
}

module "policies" {
  source = "../policies"

  environments     = var.environments
  minter_arn       = var.minter_arn
  minter_unique_id = var.minter_unique_id
  revoker_arn      = "${local.arn_of_iam}:role${var.path}${local.revoker}"
  name_prefix      = var.name_prefix
  path             = var.path
  watched_regions  = var.watched_regions
}

module "phase_roles" {
  source = "../phase-roles"

  policies = module.policies
  path     = var.path
  tags     = local.tags

  depends_on = [aws_iam_openid_connect_provider.approvers]
}

# Whom AWS believes in the place of the approvers' side: who can write under this URL can let it trust another key.
resource "aws_iam_openid_connect_provider" "approvers" {
  for_each = module.policies.identity_providers

  url            = each.value.url
  client_id_list = each.value.audiences
  tags           = local.tags
}

resource "aws_iam_role" "revoker" {
  name                 = local.revoker
  path                 = var.path
  description          = "Writes the Deny policy of the phase roles of phasebroker, and does nothing else"
  max_session_duration = 3600
  tags                 = local.tags

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "Revoker"
      Effect    = "Allow"
      Principal = { AWS = var.broker_revoker_arn }
      Action    = "sts:AssumeRole"
      Condition = { StringEquals = { "sts:ExternalId" = sort(distinct([for one in values(var.environments) : one.external_id])) } }
    }]
  })
}

resource "aws_iam_policy" "revoker" {
  name        = local.revoker
  path        = var.path
  description = "What the revoker of phasebroker may do"
  policy      = module.policies.revoker_policy
  tags        = local.tags
}

resource "aws_iam_role_policy_attachments_exclusive" "revoker" {
  role_name   = aws_iam_role.revoker.name
  policy_arns = [aws_iam_policy.revoker.arn]
}

resource "aws_iam_role_policies_exclusive" "revoker" {
  role_name    = aws_iam_role.revoker.name
  policy_names = []
}

# Reads what is made here, for `phasebroker doctor`.
resource "aws_iam_role" "doctor" {
  count = local.doctored ? 1 : 0

  name                 = local.doctor
  path                 = var.path
  description          = "Reads the roles and trails of phasebroker, and does nothing else"
  max_session_duration = 3600
  tags                 = local.tags

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "Doctor"
      Effect    = "Allow"
      Principal = { AWS = sort(var.doctor_principals) }
      Action    = "sts:AssumeRole"
    }]
  })
}

resource "aws_iam_policy" "doctor" {
  count = local.doctored ? 1 : 0

  name        = local.doctor
  path        = var.path
  description = "What the doctor of phasebroker may do"
  policy      = module.policies.doctor_policy
  tags        = local.tags
}

resource "aws_iam_role_policy_attachments_exclusive" "doctor" {
  count = local.doctored ? 1 : 0

  role_name   = aws_iam_role.doctor[0].name
  policy_arns = [aws_iam_policy.doctor[0].arn]
}

resource "aws_iam_role_policies_exclusive" "doctor" {
  count = local.doctored ? 1 : 0

  role_name    = aws_iam_role.doctor[0].name
  policy_names = []
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

  arns = module.trail[*].key_arn
}

module "watch" {
  source = "../watch"

  patterns           = merge(module.policies.event_patterns, { for name in ["key-changed"] : name => module.key_changed.pattern if var.trail })
  regions            = toset(module.policies.watched_regions)
  name_prefix        = var.name_prefix
  key_administrators = var.key_administrators
  tags               = local.tags
}
