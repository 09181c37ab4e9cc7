# Who reads for `phasebroker doctor`: roles with what they carry, what minter and revoker could do, and trails. It reads
# nothing of what runs in the account, and changes nothing, whatever else is attached to it.
locals {
  # IAM gives a role only to its own account.
  broker_roles   = [for arn in [var.minter_arn, var.revoker_arn] : arn if split(":", arn)[4] == local.account]
  doctor_actions = concat(local.doctor_role_actions, local.doctor_policy_actions, local.doctor_trail_actions, ["cloudtrail:DescribeTrails", "iam:SimulatePrincipalPolicy"])

  doctor_role_actions   = ["iam:GetRole", "iam:GetRolePolicy", "iam:ListAttachedRolePolicies", "iam:ListRolePolicies"]
  doctor_policy_actions = ["iam:GetPolicy", "iam:GetPolicyVersion"]
  doctor_trail_actions  = ["cloudtrail:GetEventSelectors", "cloudtrail:GetTrailStatus"]

  doctor_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      { Sid = "Roles", Effect = "Allow", Action = local.doctor_role_actions, Resource = sort(concat(local.role_arns, local.broker_roles)) },
      # Also what somebody attached who should not have.
      { Sid = "Policies", Effect = "Allow", Action = local.doctor_policy_actions, Resource = ["${local.arn_of_iam}:policy/*", "arn:${local.partition}:iam::aws:policy/*"] },
      { Sid = "Simulate", Effect = "Allow", Action = "iam:SimulatePrincipalPolicy", Resource = sort(local.broker_roles) },
      # The trail may be the organization's, which belongs to another account.
      { Sid = "Trails", Effect = "Allow", Action = local.doctor_trail_actions, Resource = "arn:${local.partition}:cloudtrail:*:*:trail/*" },
      { Sid = "ListTrails", Effect = "Allow", Action = "cloudtrail:DescribeTrails", Resource = "*" },
      { Sid = "NothingElse", Effect = "Deny", NotAction = local.doctor_actions, Resource = "*" },
    ]
  })
}
