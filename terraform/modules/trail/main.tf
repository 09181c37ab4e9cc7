# What the sessions did, where nobody who works with the account can change it: one trail over every region with
# validated log files, in an encrypted bucket whose objects are kept under lock.
variable "name_prefix" {
  description = "First characters of every name."
  type        = string
}

variable "account" {
  description = "Twelve digits."
  type        = string
}

variable "partition" {
  description = "aws, aws-cn, aws-us-gov or aws-eusc."
  type        = string
}

variable "region" {
  description = "Home region of the trail."
  type        = string
}

variable "data_events" {
  description = "Beginnings of ARNs whose data events are recorded, by resource type of CloudTrail."
  type        = map(list(string))
}

variable "key_administrators" {
  description = "Who administers the key of the trail."
  type        = list(string)
}

variable "readers" {
  description = "Roles that may read the log files: auditors, and later the reconciler."
  type        = list(string)
}

variable "keep_days" {
  description = "Days for which nobody can delete a log file."
  type        = number

  validation {
    condition     = var.keep_days >= 90 && var.keep_days <= 3650 && floor(var.keep_days) == var.keep_days
    error_message = "Log files are kept for 90 to 3650 days."
  }
}

variable "tags" {
  description = "Tags of everything made here."
  type        = map(string)
}

locals {
  name      = "${var.name_prefix}trail"
  bucket    = "${var.name_prefix}trail-${var.account}-${var.region}"
  trail_arn = "arn:${var.partition}:cloudtrail:${var.region}:${var.account}:trail/${local.name}"
  bucket_of = "arn:${var.partition}:s3:::${local.bucket}"
}

resource "aws_kms_key" "trail" {
  description         = "Encrypts the log files of phasebroker's trail"
  enable_key_rotation = true
  tags                = var.tags

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [for statement in [
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
        Sid       = "Write"
        Effect    = "Allow"
        Principal = { Service = "cloudtrail.amazonaws.com" }
        Action    = "kms:GenerateDataKey*"
        Resource  = "*"
        Condition = {
          StringEquals = { "aws:SourceArn" = local.trail_arn }
          StringLike   = { "kms:EncryptionContext:aws:cloudtrail:arn" = "arn:${var.partition}:cloudtrail:*:${var.account}:trail/*" }
        }
      },
      {
        Sid       = "Look"
        Effect    = "Allow"
        Principal = { Service = "cloudtrail.amazonaws.com" }
        Action    = "kms:DescribeKey"
        Resource  = "*"
      },
      {
        Sid       = "Read"
        Effect    = "Allow"
        Principal = { AWS = sort(var.readers) }
        Action    = "kms:Decrypt"
        Resource  = "*"
        Condition = { Null = { "kms:EncryptionContext:aws:cloudtrail:arn" = "false" } }
      },
    ] : statement if statement.Sid != "Read" || length(var.readers) > 0]
  })
}

resource "aws_s3_bucket" "trail" {
  #checkov:skip=CKV_AWS_18: who reads the log files is in the trail itself wherever data events of the bucket are recorded; a log of the log bucket needs a bucket that again has none
  #checkov:skip=CKV_AWS_144: a second region is the operator's choice; lock, versions and validation make loss visible and deletion impossible
  #checkov:skip=CKV2_AWS_62: nothing has to react to a new log file; the alarms come from EventBridge
  bucket              = local.bucket
  object_lock_enabled = true
  tags                = var.tags
}

resource "aws_s3_bucket_object_lock_configuration" "trail" {
  bucket = aws_s3_bucket.trail.id

  rule {
    default_retention {
      mode = "COMPLIANCE"
      days = var.keep_days
    }
  }
}

resource "aws_s3_bucket_versioning" "trail" {
  bucket = aws_s3_bucket.trail.id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "trail" {
  bucket = aws_s3_bucket.trail.id

  rule {
    # With a Bucket Key the encryption context would be the bucket's, and CloudTrail would need to decrypt: the key's policy
    # says neither (CloudTrail User Guide, Configure AWS KMS key policies for CloudTrail).
    bucket_key_enabled = false

    apply_server_side_encryption_by_default {
      sse_algorithm     = "aws:kms"
      kms_master_key_id = aws_kms_key.trail.arn
    }
  }
}

resource "aws_s3_bucket_public_access_block" "trail" {
  bucket = aws_s3_bucket.trail.id

  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "trail" {
  bucket = aws_s3_bucket.trail.id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "trail" {
  bucket = aws_s3_bucket.trail.id

  rule {
    id     = "after-the-lock"
    status = "Enabled"

    filter {
      prefix = ""
    }
    expiration {
      days = var.keep_days + 1
    }
    noncurrent_version_expiration {
      noncurrent_days = var.keep_days + 1
    }
    abort_incomplete_multipart_upload {
      days_after_initiation = 1
    }
  }

  depends_on = [aws_s3_bucket_versioning.trail]
}

resource "aws_s3_bucket_policy" "trail" {
  bucket = aws_s3_bucket.trail.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [for statement in [
      {
        Sid       = "Look"
        Effect    = "Allow"
        Principal = { Service = "cloudtrail.amazonaws.com" }
        Action    = "s3:GetBucketAcl"
        Resource  = local.bucket_of
        Condition = { StringEquals = { "aws:SourceArn" = local.trail_arn } }
      },
      {
        Sid       = "Write"
        Effect    = "Allow"
        Principal = { Service = "cloudtrail.amazonaws.com" }
        Action    = "s3:PutObject"
        Resource  = "${local.bucket_of}/AWSLogs/${var.account}/*"
        Condition = { StringEquals = { "aws:SourceArn" = local.trail_arn, "s3:x-amz-acl" = "bucket-owner-full-control" } }
      },
      {
        Sid       = "Read"
        Effect    = "Allow"
        Principal = { AWS = sort(var.readers) }
        Action    = ["s3:GetObject", "s3:ListBucket"]
        Resource  = [local.bucket_of, "${local.bucket_of}/*"]
      },
      {
        Sid       = "InTheClear"
        Effect    = "Deny"
        Principal = "*"
        Action    = "s3:*"
        Resource  = [local.bucket_of, "${local.bucket_of}/*"]
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      },
    ] : statement if statement.Sid != "Read" || length(var.readers) > 0]
  })

  depends_on = [aws_s3_bucket_public_access_block.trail]
}

resource "aws_cloudtrail" "trail" {
  #checkov:skip=CKV_AWS_252: a notice for each log file tells nobody anything; the alarms come from EventBridge
  #checkov:skip=CKV2_AWS_10: the log files under lock are the record; CloudWatch Logs would be a second, deletable copy
  name                          = local.name
  s3_bucket_name                = aws_s3_bucket.trail.id
  kms_key_id                    = aws_kms_key.trail.arn
  is_multi_region_trail         = true
  include_global_service_events = true
  enable_log_file_validation    = true
  enable_logging                = true
  tags                          = var.tags

  advanced_event_selector {
    name = "Every management event"

    field_selector {
      field  = "eventCategory"
      equals = ["Management"]
    }
  }

  # Off by default at AWS. What is not recorded here, nobody can compare with what was approved.
  dynamic "advanced_event_selector" {
    for_each = var.data_events
    iterator = kind

    content {
      name = "What execute sessions may touch: ${kind.key}"

      field_selector {
        field  = "eventCategory"
        equals = ["Data"]
      }
      field_selector {
        field  = "resources.type"
        equals = [kind.key]
      }
      field_selector {
        field       = "resources.ARN"
        starts_with = kind.value
      }
    }
  }

  depends_on = [aws_s3_bucket_policy.trail]
}

output "trail_arn" {
  description = "The trail."
  value       = aws_cloudtrail.trail.arn
}

output "bucket" {
  description = "Its bucket."
  value       = aws_s3_bucket.trail.id
}

output "key_arn" {
  description = "The key that encrypts its log files."
  value       = aws_kms_key.trail.arn
}
