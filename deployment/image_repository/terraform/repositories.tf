resource "aws_ecr_repository" "managed" {
  for_each = var.repositories

  name         = each.value
  force_delete = var.force_delete

  # In this mode the tags that match the filter cannot move; all others can.
  image_tag_mutability = local.fixed_tags[each.value] == null ? "MUTABLE" : "MUTABLE_WITH_EXCLUSION"

  dynamic "image_tag_mutability_exclusion_filter" {
    for_each = local.fixed_tags[each.value] == null ? [] : [local.fixed_tags[each.value]]

    content {
      filter      = image_tag_mutability_exclusion_filter.value
      filter_type = "WILDCARD"
    }
  }

  encryption_configuration {
    encryption_type = "KMS"
    kms_key         = aws_kms_key.ecr.arn
  }

  image_scanning_configuration {
    scan_on_push = var.scan_on_push
  }

  lifecycle {
    # Encryption is chosen once, at creation. A repository that an older HTC-Grid created without the key keeps what it
    # has: the alternative is to delete it with all its images.
    ignore_changes = [encryption_configuration]
  }
}

locals {
  # A build's tag carries its digest and names that build for ever.
  build_tags = "*-sha256-*"
  fixed_tags = {
    for name in var.repositories :
    name => var.protect_build_tags && name == var.runtimes.repository ? local.build_tags : null
  }

  # ECR's rules expire images, never single tags, and what one rule's tags match no later rule expires: the first rules
  # keep what runs, however many newer builds there are.
  lifecycle_rules = concat(
    [
      for tag in var.runtimes.tags : {
        description = "${tag} is what the grid runs"
        status      = "tagged"
        patterns    = [tag]
        keep        = 1
      }
    ],
    [
      for tag in var.runtimes.tags : {
        description = "the newest builds of ${tag}"
        status      = "tagged"
        patterns    = ["${tag}-sha256-*"]
        keep        = var.keep_builds
      }
    ],
    [
      {
        description = "the newest images without a tag"
        status      = "untagged"
        patterns    = null
        keep        = var.keep_builds
      }
    ],
  )
}

resource "aws_ecr_lifecycle_policy" "runtimes" {
  for_each = var.keep_builds == null ? [] : setintersection(var.repositories, [var.runtimes.repository])

  repository = aws_ecr_repository.managed[each.value].name
  policy = jsonencode({
    rules = [
      for index, rule in local.lifecycle_rules : {
        rulePriority = index + 1
        description  = rule.description
        selection = merge(
          {
            tagStatus   = rule.status
            countType   = "imageCountMoreThan"
            countNumber = rule.keep
          },
          rule.patterns == null ? {} : { tagPatternList = rule.patterns },
        )
        action = { type = "expire" }
      }
    ]
  })
}

resource "aws_ecr_repository_policy" "pull" {
  for_each = length(var.pull_accounts) == 0 ? [] : var.repositories

  repository = aws_ecr_repository.managed[each.value].name
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "Pull"
        Effect    = "Allow"
        Principal = { AWS = [for account in var.pull_accounts : "arn:${local.partition}:iam::${account}:root"] }
        Action = [
          "ecr:BatchCheckLayerAvailability",
          "ecr:BatchGetImage",
          "ecr:GetDownloadUrlForLayer",
        ]
      },
    ]
  })
}

moved {
  from = aws_ecr_repository.third_party
  to   = aws_ecr_repository.managed
}
