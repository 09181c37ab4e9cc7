# The EventBridge pattern of changes to keys: who else may use one, and whether it still works. No provider, so that it can
# be tested offline.
terraform {
  required_version = ">= 1.9"
}

variable "arns" {
  description = "ARNs of the keys."
  type        = list(string)
}

output "pattern" {
  description = "The pattern, JSON."
  value = jsonencode({
    "detail-type" = ["AWS API Call via CloudTrail"]
    source        = ["aws.kms"]
    detail = {
      eventSource = ["kms.amazonaws.com"]
      eventName   = ["CreateGrant", "DisableKey", "PutKeyPolicy", "ScheduleKeyDeletion"]
      resources   = { ARN = var.arns }
    }
  })
}
