output "role_arns" {
  description = "ARN of each phase role, as the catalog names them."
  value       = module.phase_roles.role_arns
}

output "revoker_arn" {
  description = "This account's revoker."
  value       = aws_iam_role.revoker.arn
}

output "configuration" {
  description = "What phasebroker.toml needs for this account, after [aws]: without it the broker does not start."
  value       = <<-EOT
    [[aws.accounts]]
    account = "${local.account}"
    revoke_profile = "${local.profile}"${local.doctored ? "\ndoctor_profile = \"${local.doctor}-${local.account}\"" : ""}
    region = "${local.home.region}"
  EOT
}

output "profile" {
  description = "The profiles of the shared AWS configuration that it names: the broker's revoker becomes this account's, and one of doctor_principals its doctor."
  value       = <<-EOT
    [profile ${local.profile}]
    role_arn = ${aws_iam_role.revoker.arn}
    external_id = ${local.home.external_id}
    source_profile = phasebroker-revoke
    %{if local.doctored~}

    [profile ${local.doctor}-${local.account}]
    role_arn = ${aws_iam_role.doctor[0].arn}
    source_profile = phasebroker-host
    %{endif~}
  EOT
}

output "doctor_arn" {
  description = "This account's doctor, if one is made here."
  value       = one(aws_iam_role.doctor[*].arn)
}

output "alarm_topics" {
  description = "SNS topics of the alarms, by region; nobody is told until somebody subscribes."
  value       = module.watch.topic_arns
}
