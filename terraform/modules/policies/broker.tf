# The broker's two identities. Neither can do the other's part, whatever else is attached to it.
locals {
  minted_roles = sort(distinct(concat(local.minted_arns, var.minter_further_roles)))
  mint_actions = ["sts:AssumeRole", "sts:SetSourceIdentity", "sts:TagSession"]
  deny_actions = ["iam:DeleteRolePolicy", "iam:GetRolePolicy", "iam:PutRolePolicy"]

  minter_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      { Sid = "Mint", Effect = "Allow", Action = local.mint_actions, Resource = local.minted_roles },
      { Sid = "NoOtherRole", Effect = "Deny", Action = local.mint_actions, NotResource = local.minted_roles },
      # Signing is granted by the key's own policy.
      { Sid = "NothingElse", Effect = "Deny", NotAction = concat(local.mint_actions, ["kms:DescribeKey", "kms:GetPublicKey", "kms:Sign"]), Resource = "*" },
    ]
  })

  # IAM has no condition on the name or text of an inline policy: who writes it could widen the role. What limits that is
  # the boundary, which this identity cannot touch, and without which it cannot write.
  revoker_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      { Sid = "Look", Effect = "Allow", Action = "iam:GetRolePolicy", Resource = local.role_arns },
      {
        Sid       = "Write"
        Effect    = "Allow"
        Action    = ["iam:DeleteRolePolicy", "iam:PutRolePolicy"]
        Resource  = local.role_arns
        Condition = { StringEquals = { "iam:PermissionsBoundary" = sort(values(local.boundary_arns)) } }
      },
      { Sid = "NoOtherRole", Effect = "Deny", Action = local.deny_actions, NotResource = local.role_arns },
      { Sid = "NothingElse", Effect = "Deny", NotAction = local.deny_actions, Resource = "*" },
    ]
  })
}
