locals {
  partition  = values(var.environments)[0].partition
  account    = values(var.environments)[0].account
  arn_of_iam = "arn:${local.partition}:iam::${local.account}"

  # Every role of every environment, as `production-execute`. Roles are named by the catalog, exactly.
  roles = merge([for environment, one in var.environments : { for kind, role in one.roles : "${environment}-${kind}" => {
    # The shards of the execute role, execute-1 and so on, are of its kind.
    kind        = startswith(kind, "execute") ? "execute" : kind
    arn         = role.arn
    name        = element(split("/", role.arn), -1)
    path        = trimsuffix(trimprefix(role.arn, "${local.arn_of_iam}:role"), element(split("/", role.arn), -1))
    phase       = role.phase
    ceiling     = role.ceiling
    external_id = one.external_id
    # Only work is done with a token of the approvers' side; the minter observes.
    web_identity = kind == "observe" ? null : one.web_identity
  } }]...)
  role_arns   = sort([for role in values(local.roles) : role.arn])
  minted_arns = sort([for role in values(local.roles) : role.arn if role.web_identity == null])
  signed_arns = sort([for role in values(local.roles) : role.arn if role.web_identity != null])

  # Issuers whose signing key is held on the approvers' side.
  issuers = distinct([for role in values(local.roles) : role.web_identity.issuer if role.web_identity != null])
  identity_providers = { for issuer in local.issuers : trimprefix(issuer, "https://") => {
    url       = issuer
    audiences = sort(distinct([for role in values(local.roles) : role.web_identity.audience if try(role.web_identity.issuer, null) == issuer]))
    arn       = "${local.arn_of_iam}:oidc-provider/${trimprefix(issuer, "https://")}"
  } }
  protected = sort(distinct(flatten([for one in values(var.environments) : one.protected])))

  # Everything else is named by the prefix.
  ceiling_names  = { for name in keys(local.roles) : name => "${var.name_prefix}${name}-ceiling" }
  boundary_names = { for name in keys(local.roles) : name => "${var.name_prefix}${name}-boundary" }
  boundary_arns  = { for name, policy in local.boundary_names : name => "${local.arn_of_iam}:policy${var.path}${policy}" }

  watched_regions = sort(distinct(concat(tolist(var.watched_regions), [local.iam_events_region], [for one in values(var.environments) : one.region])))

  minter_account = split(":", var.minter_arn)[4]
  foreign        = local.minter_account != local.account
}
