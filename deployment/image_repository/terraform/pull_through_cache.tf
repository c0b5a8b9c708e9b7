resource "aws_ecr_pull_through_cache_rule" "managed" {
  for_each = var.pull_through_cache_rules

  ecr_repository_prefix      = each.key
  upstream_registry_url      = each.value.upstream
  credential_arn             = each.value.credential_arn
  custom_role_arn            = each.value.custom_role_arn
  upstream_repository_prefix = each.value.upstream_repository_prefix
}

# What ECR gives to the repositories that it makes under a prefix at the first pull: without this, AES256 and no policy. It has no
# word for scans, which are the registry's own setting. The role lets ECR use the key and set tags.
resource "aws_ecr_repository_creation_template" "managed" {
  for_each = toset(var.creation_template == null ? [] : var.creation_template.prefixes)

  prefix               = each.value
  description          = "Repositories of the pull-through cache, as the grid ${var.tag} wants them"
  applied_for          = ["PULL_THROUGH_CACHE"]
  custom_role_arn      = var.creation_template.role_arn
  image_tag_mutability = "MUTABLE"

  encryption_configuration {
    encryption_type = "KMS"
    kms_key         = aws_kms_key.ecr.arn
  }

  # As in the runtimes' repository: what no tag names any more.
  lifecycle_policy = var.keep_builds == null ? null : jsonencode({
    rules = [
      {
        rulePriority = 1
        description  = "the newest images without a tag"
        selection = {
          tagStatus   = "untagged"
          countType   = "imageCountMoreThan"
          countNumber = var.keep_builds
        }
        action = { type = "expire" }
      }
    ]
  })

  # Without this grid's mark: ECR's repositories outlive the grid, and are nobody's reason to keep anything.
  resource_tags = length(var.tags) == 0 ? null : var.tags
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
