# Tells somebody: EventBridge rules for every pattern, in every watched region, to one encrypted topic a region.
variable "patterns" {
  description = "EventBridge patterns, JSON, by name."
  type        = map(string)
}

variable "regions" {
  description = "Regions to watch: those in which the phase roles may be assumed, and the one in which EventBridge hears of IAM."
  type        = set(string)
}

variable "name_prefix" {
  description = "First characters of every name."
  type        = string
}

variable "key_administrators" {
  description = "Who administers the keys of the topics."
  type        = list(string)
}

variable "tags" {
  description = "Tags of everything made here."
  type        = map(string)
}

locals {
  # Every pattern everywhere, and in each region that of its own key.
  patterns = { for region in var.regions : region => merge(var.patterns, { alarm-key-changed = module.key_changed[region].pattern }) }

  rules = { for pair in setproduct(var.regions, concat(keys(var.patterns), ["alarm-key-changed"])) : "${pair[0]}/${pair[1]}" => {
    region = pair[0]
    name   = pair[1]
  } }
}

resource "aws_kms_key" "alarms" {
  for_each = var.regions
  region   = each.value

  description         = "Encrypts the alarms of phasebroker"
  enable_key_rotation = true
  tags                = var.tags

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "Administer"
        Effect    = "Allow"
        Principal = { AWS = sort(var.key_administrators) }
        Action = [
          "kms:CancelKeyDeletion", "kms:DescribeKey", "kms:DisableKey", "kms:EnableKey", "kms:EnableKeyRotation",
          "kms:GetKeyPolicy", "kms:GetKeyRotationStatus", "kms:ListResourceTags", "kms:PutKeyPolicy",
          "kms:ScheduleKeyDeletion", "kms:TagResource", "kms:UntagResource", "kms:UpdateKeyDescription",
        ]
        Resource = "*"
      },
      {
        Sid       = "Publish"
        Effect    = "Allow"
        Principal = { Service = ["events.amazonaws.com", "sns.amazonaws.com"] }
        Action    = ["kms:Decrypt", "kms:GenerateDataKey*"]
        Resource  = "*"
      },
    ]
  })
}

module "key_changed" {
  source   = "../key-pattern"
  for_each = var.regions

  arns = [aws_kms_key.alarms[each.value].arn]
}

resource "aws_sns_topic" "alarms" {
  for_each = var.regions
  region   = each.value

  name              = "${var.name_prefix}alarms"
  kms_master_key_id = aws_kms_key.alarms[each.value].arn
  tags              = var.tags
}

# No condition on the source, here and in the key: EventBridge does not carry one when it publishes to an encrypted topic
# (SNS developer guide, key management), and an alarm that is never delivered is worse than one that somebody made up.
resource "aws_sns_topic_policy" "alarms" {
  for_each = var.regions
  region   = each.value

  arn = aws_sns_topic.alarms[each.value].arn
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "Rules"
      Effect    = "Allow"
      Principal = { Service = "events.amazonaws.com" }
      Action    = "sns:Publish"
      Resource  = aws_sns_topic.alarms[each.value].arn
    }]
  })
}

resource "aws_cloudwatch_event_rule" "alarms" {
  for_each = local.rules
  region   = each.value.region

  name          = "${var.name_prefix}${each.value.name}"
  description   = "phasebroker: ${each.value.name}"
  event_pattern = local.patterns[each.value.region][each.value.name]
  # Assuming a role counts as reading, which a rule that is only enabled does not hear of.
  state = "ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS"
  tags  = var.tags
}

resource "aws_cloudwatch_event_target" "alarms" {
  for_each = local.rules
  region   = each.value.region

  rule      = aws_cloudwatch_event_rule.alarms[each.key].name
  target_id = "alarms"
  arn       = aws_sns_topic.alarms[each.value.region].arn
}

output "topic_arns" {
  description = "The topics, by region; nobody is told until somebody subscribes."
  value       = { for region, topic in aws_sns_topic.alarms : region => topic.arn }
}
