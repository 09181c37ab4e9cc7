# The roles that sessions are made from: trust, ceiling, boundary. No inline policy is made here and none is removed:
# the one that a role may carry is the broker's Deny policy, which comes and goes with early ends.
variable "policies" {
  description = "The module `policies`, whole."
  type = object({
    roles = map(object({
      arn           = string
      name          = string
      path          = string
      phase         = string
      ceiling_name  = string
      boundary_name = string
      boundary_arn  = string
    }))
    trust_policies      = map(string)
    ceilings            = map(string)
    boundaries          = map(string)
    max_session_seconds = number
  })
}

variable "path" {
  description = "IAM path of the policies."
  type        = string
}

variable "tags" {
  description = "Tags of everything made here."
  type        = map(string)
}

resource "aws_iam_policy" "boundary" {
  for_each = var.policies.boundaries

  name        = var.policies.roles[each.key].boundary_name
  path        = var.path
  description = "Permission boundary of the phase role ${each.key}"
  policy      = each.value
  tags        = var.tags
}

resource "aws_iam_policy" "ceiling" {
  for_each = var.policies.ceilings

  name        = var.policies.roles[each.key].ceiling_name
  path        = var.path
  description = "What the catalog can need of the phase role ${each.key}"
  policy      = each.value
  tags        = var.tags
}

resource "aws_iam_role" "phase" {
  for_each = var.policies.roles

  name                 = each.value.name
  path                 = each.value.path
  description          = "Sessions of ${each.key}, made by phasebroker alone"
  assume_role_policy   = var.policies.trust_policies[each.key]
  permissions_boundary = aws_iam_policy.boundary[each.key].arn
  max_session_duration = var.policies.max_session_seconds
  tags                 = var.tags
}

# Exclusive: what somebody else attaches is taken off again by the next apply.
resource "aws_iam_role_policy_attachments_exclusive" "phase" {
  for_each = var.policies.roles

  role_name   = aws_iam_role.phase[each.key].name
  policy_arns = [for name, ceiling in aws_iam_policy.ceiling : ceiling.arn if name == each.key]
}

output "role_arns" {
  description = "ARN of each phase role."
  value       = { for name, role in aws_iam_role.phase : name => role.arn }

  precondition {
    condition     = alltrue([for name, role in aws_iam_role.phase : role.arn == var.policies.roles[name].arn])
    error_message = "A role has not the ARN that the catalog names: is the provider configured for another account or partition?"
  }
}
