output "tag" {
  description = "The grid that this state belongs to."
  value       = var.tag
}

output "region" {
  description = "The region of the repositories."
  value       = var.region
}

output "account_id" {
  description = "The account of the repositories."
  value       = local.account_id
}

output "registry" {
  description = "The registry's host, HTC-Grid's aws_htc_ecr."
  value = try(
    split("/", values(local.repository_urls)[0])[0],
    "${local.account_id}.dkr.ecr.${var.region}.${local.dns_suffix}",
  )
}

locals {
  managed_urls    = { for name, repository in aws_ecr_repository.managed : name => repository.repository_url }
  repository_urls = merge(local.managed_urls, var.existing_repositories)
  cache_rules = merge(
    { for prefix, rule in aws_ecr_pull_through_cache_rule.managed : prefix => rule.upstream_registry_url },
    var.existing_pull_through_cache_rules,
  )
}

output "repository_urls" {
  description = "Every repository of the grid and its URL."
  value       = local.repository_urls
}

output "managed_repositories" {
  description = "The repositories that this state manages."
  value       = sort(keys(local.managed_urls))
}

output "pull_through_cache_rules" {
  description = "Every pull-through cache rule of the grid: prefix to upstream registry."
  value       = local.cache_rules
}

output "managed_pull_through_cache_rules" {
  description = "The prefixes of the rules that this state manages."
  value       = sort(keys(aws_ecr_pull_through_cache_rule.managed))
}

output "kms_key_arn" {
  description = "The key that encrypts the managed repositories."
  value       = aws_kms_key.ecr.arn
}

output "kms_key_alias" {
  description = "The key's alias."
  value       = aws_kms_alias.ecr[local.alias].name
}
