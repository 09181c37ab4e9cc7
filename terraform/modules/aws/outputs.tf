output "role_arns" {
  description = "ARN of each phase role, as the catalog names them."
  value       = module.phase_roles.role_arns
}

output "minter_arn" {
  description = "The role of `mint_profile`."
  value       = aws_iam_role.minter.arn
}

output "minter_unique_id" {
  description = "Unique id of the minter, which modules/target-account asks for."
  value       = aws_iam_role.minter.unique_id
}

output "revoker_arn" {
  description = "The role of `revoke_profile`."
  value       = aws_iam_role.revoker.arn
}

output "signing_key_arns" {
  description = "The signing keys, by use."
  value       = { for use, key in aws_kms_key.signing : use => key.arn }
}

output "trail_bucket" {
  description = "Bucket of the trail, if one is made here."
  value       = one(module.trail[*].bucket)
}

output "alarm_topics" {
  description = "SNS topics of the alarms, by region; nobody is told until somebody subscribes."
  value       = module.watch.topic_arns
}
