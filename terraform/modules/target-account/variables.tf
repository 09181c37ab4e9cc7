variable "environments" {
  description = "Environments of this account, of what `phasebroker aws ceiling` printed; each needs an external id."
  type        = any

  validation {
    condition     = alltrue([for one in values(var.environments) : try(length(one.external_id) >= 2, false)])
    error_message = "Another account asks for an external id: give each environment here `external_id` in the catalog, and print the ceilings again."
  }
}

variable "minter_arn" {
  description = "The broker's minter, in its own account."
  type        = string
}

variable "minter_unique_id" {
  description = "Unique id (AROA...) of the minter: a trail of this account knows callers from elsewhere by nothing else."
  type        = string
}

variable "broker_revoker_arn" {
  description = "The broker's revoker, in its own account; it becomes the revoker made here."
  type        = string

  validation {
    condition     = can(regex("^arn:(aws|aws-cn|aws-us-gov|aws-eusc):iam::[0-9]{12}:role/[^*?]+$", var.broker_revoker_arn)) && lower(var.broker_revoker_arn) != lower(var.minter_arn)
    error_message = "The broker's revoker is one role, named by its exact ARN, and never the minter."
  }
}

variable "doctor_principals" {
  description = "ARNs of the roles that become the doctor of this account, which only reads; without one there is none."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.doctor_principals : can(regex("^arn:(aws|aws-cn|aws-us-gov|aws-eusc):iam::[0-9]{12}:role/[^*?]+$", arn))])
    error_message = "Name each role by its exact ARN: neither an account, nor a user, nor a wildcard."
  }
}

variable "key_administrators" {
  description = "Roles of this account that administer the keys of its alarms and trail. The role that applies this must be one of them."
  type        = list(string)

  validation {
    condition     = length(var.key_administrators) > 0
    error_message = "Name at least the role that applies this: a key that nobody administers cannot be repaired."
  }
}

variable "auditors" {
  description = "Roles that may read the trail."
  type        = list(string)
  default     = []
}

variable "trail" {
  description = "Whether to make a trail here; leave it out where an organization trail records the same."
  type        = bool
  default     = true
}

variable "trail_keep_days" {
  description = "Days for which nobody can delete a log file."
  type        = number
  default     = 400
}

variable "watched_regions" {
  description = "Further regions in which the phase roles may be assumed, watched like those of the environments: the broker's `region` for this account, where it is another one. In no other region can they be."
  type        = set(string)
  default     = []
}

variable "name_prefix" {
  description = "First characters of the names of everything but the phase roles, which the catalog names."
  type        = string
  default     = "phasebroker-"
}

variable "path" {
  description = "IAM path of policies and revoker."
  type        = string
  default     = "/"
}

variable "tags" {
  description = "Further tags of everything made here."
  type        = map(string)
  default     = {}
}
