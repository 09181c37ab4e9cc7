# Who may assume a phase role: the minter alone, and only as the broker does it; or, where the approvers' side signs, a
# token of its issuer alone. Each statement uses the condition keys
# that AWS lists for its action, so that no key is absent by nature. A session is given out in watched regions alone: a call
# in any other would be told of nowhere (the global endpoint counts as us-east-1; the broker never uses it).
locals {
  # A ULID, and what a session is called.
  ulid          = "??????????????????????????"
  allowed_tags  = ["agent", "grant", "lease", "phase"]
  signed_tags   = concat(local.allowed_tags, ["action", "p_*"])
  source_shapes = { observe = "?*", execute = local.ulid }
  grant_shapes  = { observe = "none", execute = local.ulid }

  trust_policies = merge(local.minted_trust, local.signed_trust)

  minted_trust = { for name, role in local.roles : name => jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "Assume"
        Effect    = "Allow"
        Principal = { AWS = var.minter_arn }
        Action    = "sts:AssumeRole"
        Condition = {
          StringEquals = merge({ "aws:RequestTag/phase" = role.phase, "aws:RequestedRegion" = local.watched_regions }, { for key, id in { "sts:ExternalId" = role.external_id } : key => id if id != null })
          StringLike = {
            "sts:RoleSessionName"  = "${role.phase}-${local.ulid}"
            "sts:SourceIdentity"   = local.source_shapes[role.phase]
            "aws:RequestTag/lease" = local.ulid
            "aws:RequestTag/agent" = "?*"
            "aws:RequestTag/grant" = local.grant_shapes[role.phase]
          }
          # Passes when there are no tags at all; the lines above ask for each of them.
          "ForAllValues:StringEquals" = { "aws:TagKeys" = local.allowed_tags }
          # No tag goes on into a session that is made from this one.
          Null = { "sts:TransitiveTagKeys" = "true" }
        }
      },
      {
        Sid       = "Tag"
        Effect    = "Allow"
        Principal = { AWS = var.minter_arn }
        Action    = "sts:TagSession"
        Condition = {
          StringEquals                = { "aws:RequestTag/phase" = role.phase }
          StringLike                  = { "aws:RequestTag/lease" = local.ulid }
          "ForAllValues:StringEquals" = { "aws:TagKeys" = local.allowed_tags }
          Null                        = { "sts:TransitiveTagKeys" = "true" }
        }
      },
      {
        Sid       = "Name"
        Effect    = "Allow"
        Principal = { AWS = var.minter_arn }
        Action    = "sts:SetSourceIdentity"
        Condition = { StringLike = { "sts:SourceIdentity" = local.source_shapes[role.phase] } }
      },
    ]
  }) if role.web_identity == null }

  # AWS takes audience, subject, tags and source identity from the token. Session policy and duration are the caller's
  # choice, so that nothing here may rest on them. The subject is the role that the token was signed for.
  signed_trust = { for name, role in local.roles : name => jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "Assume"
        Effect    = "Allow"
        Principal = { Federated = local.identity_providers[trimprefix(role.web_identity.issuer, "https://")].arn }
        Action    = "sts:AssumeRoleWithWebIdentity"
        Condition = {
          StringEquals = {
            "${trimprefix(role.web_identity.issuer, "https://")}:aud" = role.web_identity.audience
            "${trimprefix(role.web_identity.issuer, "https://")}:sub" = role.arn
            "aws:RequestTag/phase"                                    = role.phase
            "aws:RequestedRegion"                                     = local.watched_regions
          }
          StringLike = {
            "sts:RoleSessionName"   = "${role.phase}-${local.ulid}"
            "sts:SourceIdentity"    = local.ulid
            "aws:RequestTag/lease"  = local.ulid
            "aws:RequestTag/grant"  = local.ulid
            "aws:RequestTag/agent"  = "?*"
            "aws:RequestTag/action" = "?*"
          }
          "ForAllValues:StringLike" = { "aws:TagKeys" = local.signed_tags }
          Null                      = { "sts:TransitiveTagKeys" = "true" }
        }
      },
      {
        Sid       = "Tag"
        Effect    = "Allow"
        Principal = { Federated = local.identity_providers[trimprefix(role.web_identity.issuer, "https://")].arn }
        Action    = "sts:TagSession"
        Condition = {
          StringEquals = { "aws:RequestTag/phase" = role.phase }
          StringLike = {
            "aws:RequestTag/lease"  = local.ulid
            "aws:RequestTag/action" = "?*"
          }
          "ForAllValues:StringLike" = { "aws:TagKeys" = local.signed_tags }
          Null                      = { "sts:TransitiveTagKeys" = "true" }
        }
      },
      {
        Sid       = "Name"
        Effect    = "Allow"
        Principal = { Federated = local.identity_providers[trimprefix(role.web_identity.issuer, "https://")].arn }
        Action    = "sts:SetSourceIdentity"
        Condition = { StringLike = { "sts:SourceIdentity" = local.ulid } }
      },
    ]
  }) if role.web_identity != null }
}
