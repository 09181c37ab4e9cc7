# Who may assume a phase role: the minter alone, and only as the broker does it. Each statement uses the condition keys
# that AWS lists for its action, so that no key is absent by nature.
locals {
  # A ULID, and what a session is called.
  ulid          = "??????????????????????????"
  allowed_tags  = ["agent", "grant", "lease", "phase"]
  source_shapes = { observe = "?*", execute = local.ulid }
  grant_shapes  = { observe = "none", execute = local.ulid }

  trust_policies = { for name, role in local.roles : name => jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "Assume"
        Effect    = "Allow"
        Principal = { AWS = var.minter_arn }
        Action    = "sts:AssumeRole"
        Condition = {
          StringEquals = merge({ "aws:RequestTag/phase" = role.phase }, { for key, id in { "sts:ExternalId" = role.external_id } : key => id if id != null })
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
  }) }
}
