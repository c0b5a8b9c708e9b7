resource "aws_ecr_pull_through_cache_rule" "managed" {
  for_each = var.pull_through_cache_rules

  ecr_repository_prefix      = each.key
  upstream_registry_url      = each.value.upstream
  credential_arn             = each.value.credential_arn
  custom_role_arn            = each.value.custom_role_arn
  upstream_repository_prefix = each.value.upstream_repository_prefix
}

moved {
  from = aws_ecr_pull_through_cache_rule.ecr-public
  to   = aws_ecr_pull_through_cache_rule.managed["ecr-public"]
}

moved {
  from = aws_ecr_pull_through_cache_rule.quay
  to   = aws_ecr_pull_through_cache_rule.managed["quay"]
}

moved {
  from = aws_ecr_pull_through_cache_rule.registry_k8s_io
  to   = aws_ecr_pull_through_cache_rule.managed["registry-k8s-io"]
}
