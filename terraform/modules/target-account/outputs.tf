output "role_arns" {
  description = "ARN of each phase role, as the catalog names them."
  value       = module.phase_roles.role_arns
}

output "revoker_arn" {
  description = "This account's revoker."
  value       = aws_iam_role.revoker.arn
}

output "alarm_topics" {
  description = "SNS topics of the alarms, by region; nobody is told until somebody subscribes."
  value       = module.watch.topic_arns
}
