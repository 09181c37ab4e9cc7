# Who may do what with the signing keys. The broker signs; administrators look after a key and cannot sign; verifiers
# see the public half.
locals {
  key_specs = {
    ECC_NIST_P256         = "ECDSA_SHA_256"
    ECC_NIST_EDWARDS25519 = "ED25519_SHA_512"
  }

  key_policies = { for spec, algorithm in local.key_specs : spec => jsonencode({
    Version = "2012-10-17"
    Statement = [for statement in [
      {
        Sid       = "Administer"
        Effect    = "Allow"
        Principal = { AWS = sort(var.key_administrators) }
        Action = [
          "kms:CancelKeyDeletion",
          "kms:CreateAlias",
          "kms:DeleteAlias",
          "kms:DescribeKey",
          "kms:DisableKey",
          "kms:EnableKey",
          "kms:GetKeyPolicy",
          "kms:GetKeyRotationStatus",
          "kms:GetPublicKey",
          "kms:ListAliases",
          "kms:ListGrants",
          "kms:ListKeyPolicies",
          "kms:ListResourceTags",
          "kms:PutKeyPolicy",
          "kms:ScheduleKeyDeletion",
          "kms:TagResource",
          "kms:UntagResource",
          "kms:UpdateAlias",
          "kms:UpdateKeyDescription",
        ]
        Resource = "*"
      },
      {
        Sid       = "Sign"
        Effect    = "Allow"
        Principal = { AWS = var.minter_arn }
        Action    = "kms:Sign"
        Resource  = "*"
        Condition = { StringEquals = { "kms:SigningAlgorithm" = algorithm } }
      },
      {
        Sid       = "Know"
        Effect    = "Allow"
        Principal = { AWS = var.minter_arn }
        Action    = ["kms:DescribeKey", "kms:GetPublicKey"]
        Resource  = "*"
      },
      # Also against a grant, or a policy of somebody else that names the key.
      {
        Sid       = "NobodyElseSigns"
        Effect    = "Deny"
        Principal = "*"
        Action    = ["kms:CreateGrant", "kms:Sign"]
        Resource  = "*"
        Condition = { ArnNotEquals = { "aws:PrincipalArn" = var.minter_arn } }
      },
      {
        Sid       = "Verify"
        Effect    = "Allow"
        Principal = { AWS = sort(var.key_verifiers) }
        Action    = ["kms:DescribeKey", "kms:GetPublicKey", "kms:Verify"]
        Resource  = "*"
      },
    ] : statement if statement.Sid != "Verify" || length(var.key_verifiers) > 0]
  }) if length(var.key_administrators) > 0 }
}
