# The wiring of the module. No provider is asked anything: AWS is a mock, the schema is the real one.

mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = {
      account_id = "123456789012"
      arn        = "arn:aws:sts::123456789012:assumed-role/ops/anna"
    }
  }

  mock_data "aws_partition" {
    defaults = {
      partition  = "aws"
      dns_suffix = "amazonaws.com"
    }
  }

  mock_data "aws_iam_role" {
    defaults = {
      arn = "arn:aws:iam::123456789012:role/security"
    }
  }

  mock_resource "aws_kms_key" {
    defaults = {
      arn    = "arn:aws:kms:eu-west-1:123456789012:key/6f3c"
      key_id = "6f3c"
    }
  }

  mock_resource "aws_ecr_repository" {
    defaults = {
      repository_url = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/mock"
    }
  }
}

variables {
  region       = "eu-west-1"
  tag          = "mainline"
  repositories = ["curl", "kedacore/keda", "lambda"]
  pull_through_cache_rules = {
    ecr-public = { upstream = "public.ecr.aws" }
    quay       = { upstream = "quay.io" }
  }
}

run "the_cache_s_repositories" {
  variables {
    keep_builds = 20
    tags        = { cost-centre = "risk" }
    creation_template = {
      role_arn = "arn:aws:iam::123456789012:role/ecr-creation-template"
      prefixes = ["quay"]
    }
  }

  assert {
    condition     = keys(aws_ecr_repository_creation_template.managed) == ["quay"]
    error_message = "Only the named rules have a template."
  }

  assert {
    condition = alltrue([
      for template in aws_ecr_repository_creation_template.managed :
      template.prefix == "quay"
      && template.applied_for == toset(["PULL_THROUGH_CACHE"])
      && one(template.encryption_configuration).kms_key == aws_kms_key.ecr.arn
      && jsondecode(template.lifecycle_policy).rules[0].selection.countNumber == 20
      && template.resource_tags == tomap({ cost-centre = "risk" })
    ])
    error_message = "A template gives the grid's key, its lifecycle and its tags."
  }
}

run "a_template_for_no_rule" {
  command = plan

  variables {
    creation_template = {
      role_arn = "arn:aws:iam::123456789012:role/ecr-creation-template"
      prefixes = ["none"]
    }
  }

  expect_failures = [
    var.creation_template,
  ]
}

run "the_contract" {
  assert {
    condition     = aws_kms_key.ecr.enable_key_rotation && aws_kms_key.ecr.deletion_window_in_days == 7
    error_message = "The key rotates, and its deletion takes 7 days."
  }

  assert {
    condition     = output.kms_key_alias == "alias/ecr/mainline-htc"
    error_message = "The alias is the one that HTC-Grid looks for."
  }

  assert {
    condition = alltrue([
      for repository in aws_ecr_repository.managed :
      one(repository.encryption_configuration).encryption_type == "KMS"
      && one(repository.encryption_configuration).kms_key == aws_kms_key.ecr.arn
      && one(repository.image_scanning_configuration).scan_on_push
      && repository.image_tag_mutability == "MUTABLE"
      && repository.force_delete
    ])
    error_message = "Repositories are encrypted with the key, scanned on push, mutable and can be destroyed."
  }

  assert {
    condition     = output.managed_repositories == tolist(["curl", "kedacore/keda", "lambda"])
    error_message = "Every repository of the list is managed."
  }

  assert {
    condition     = output.pull_through_cache_rules == { ecr-public = "public.ecr.aws", quay = "quay.io" }
    error_message = "Every rule of the list is there."
  }

  assert {
    condition     = output.tag == "mainline" && output.account_id == "123456789012" && output.region == "eu-west-1"
    error_message = "The state says whose it is."
  }

  assert {
    condition     = output.registry == "123456789012.dkr.ecr.eu-west-1.amazonaws.com"
    error_message = "The registry is the host of the repositories."
  }

  assert {
    condition     = length(aws_ecr_lifecycle_policy.runtimes) == 0 && length(aws_ecr_repository_policy.pull) == 0
    error_message = "Neither images expire nor do other accounts pull unless somebody asks for it."
  }
}

run "the_key_s_policy" {
  variables {
    kms_key_admin_roles = ["security"]
  }

  assert {
    condition = toset(jsondecode(aws_kms_key.ecr.policy).Statement[0].Principal.AWS) == toset([
      "arn:aws:iam::123456789012:role/security",
      "arn:aws:iam::123456789012:root",
    ])
    error_message = "Administrators are the root and the named roles; whoever runs the plan is not named."
  }

  assert {
    condition = alltrue([
      for action in jsondecode(aws_kms_key.ecr.policy).Statement[0].Action :
      !contains(["kms:*", "kms:Create*", "kms:CreateGrant", "kms:Encrypt", "kms:Decrypt"], action)
    ])
    error_message = "Administrators do not use the key."
  }

  assert {
    condition = jsondecode(aws_kms_key.ecr.policy).Statement[1].Condition.StringEquals == {
      "kms:CallerAccount" = "123456789012"
      "kms:ViaService"    = "ecr.eu-west-1.amazonaws.com"
    }
    error_message = "The key is used through ECR only."
  }
}

run "another_partition" {
  variables {
    region = "cn-north-1"
  }

  override_data {
    target = data.aws_partition.current
    values = { partition = "aws-cn", dns_suffix = "amazonaws.com.cn" }
  }

  assert {
    condition = (
      jsondecode(aws_kms_key.ecr.policy).Statement[1].Condition.StringEquals["kms:ViaService"]
      == "ecr.cn-north-1.amazonaws.com.cn"
      && local.account_root == "arn:aws-cn:iam::123456789012:root"
    )
    error_message = "Names follow the partition."
  }
}

run "what_exists_already_is_only_listed" {
  variables {
    repositories             = ["lambda"]
    existing_repositories    = { curl = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/curl" }
    pull_through_cache_rules = {}
    existing_pull_through_cache_rules = {
      quay = "quay.io"
    }
  }

  assert {
    condition     = keys(aws_ecr_repository.managed) == ["lambda"] && length(aws_ecr_pull_through_cache_rule.managed) == 0
    error_message = "Nothing of others is managed."
  }

  assert {
    condition = (
      output.repository_urls["curl"] == "123456789012.dkr.ecr.eu-west-1.amazonaws.com/curl"
      && output.pull_through_cache_rules == { quay = "quay.io" }
    )
    error_message = "What others manage is listed."
  }
}

run "build_tags_cannot_move" {
  variables {
    protect_build_tags = true
  }

  assert {
    condition = (
      aws_ecr_repository.managed["lambda"].image_tag_mutability == "MUTABLE_WITH_EXCLUSION"
      && one(aws_ecr_repository.managed["lambda"].image_tag_mutability_exclusion_filter).filter == "*-sha256-*"
      && aws_ecr_repository.managed["curl"].image_tag_mutability == "MUTABLE"
    )
    error_message = "In the runtimes' repository, and nowhere else, a build's tag is fixed."
  }
}

run "builds_expire_by_count_and_what_runs_never" {
  variables {
    keep_builds = 5
    runtimes = {
      repository = "lambda"
      tags       = ["java17", "provided"]
    }
  }

  assert {
    condition     = keys(aws_ecr_lifecycle_policy.runtimes) == ["lambda"]
    error_message = "Images expire in the runtimes' repository only."
  }

  assert {
    condition = [
      for rule in jsondecode(aws_ecr_lifecycle_policy.runtimes["lambda"].policy).rules : [
        rule.rulePriority,
        rule.selection.countNumber,
        join(",", try(rule.selection.tagPatternList, [])),
      ]
      ] == [
      [1, 1, "java17"],
      [2, 1, "provided"],
      [3, 5, "java17-sha256-*"],
      [4, 5, "provided-sha256-*"],
      [5, 5, ""],
    ]
    error_message = "What runs is protected first, then builds are counted for each runtime, then what has no tag."
  }

  assert {
    condition = alltrue([
      for rule in jsondecode(aws_ecr_lifecycle_policy.runtimes["lambda"].policy).rules :
      rule.selection.countType == "imageCountMoreThan"
    ])
    error_message = "Nothing expires by age."
  }
}

run "other_accounts_pull" {
  variables {
    pull_accounts = ["210987654321"]
  }

  assert {
    condition = alltrue([
      for policy in aws_ecr_repository_policy.pull :
      jsondecode(policy.policy).Statement[0].Principal.AWS == ["arn:aws:iam::210987654321:root"]
    ]) && length(aws_ecr_repository_policy.pull) == 3
    error_message = "Every managed repository lets the account pull."
  }

  assert {
    condition = alltrue([
      for policy in aws_ecr_repository_policy.pull : alltrue([
        for action in jsondecode(policy.policy).Statement[0].Action :
        startswith(action, "ecr:BatchGet") || startswith(action, "ecr:BatchCheck") || startswith(action, "ecr:GetDownload")
      ])
    ])
    error_message = "They pull and do nothing else."
  }
}

run "wrong_values_are_refused" {
  command = plan

  variables {
    tag          = "main line"
    repositories = ["Curl"]
    pull_through_cache_rules = {
      quay = { upstream = "https://quay.io" }
    }
    keep_builds         = 0
    pull_accounts       = ["12"]
    kms_deletion_window = 3
  }

  expect_failures = [
    var.tag,
    var.repositories,
    var.pull_through_cache_rules,
    var.keep_builds,
    var.pull_accounts,
    var.kms_deletion_window,
  ]
}

run "nothing_is_managed_and_existing_at_once" {
  command = plan

  variables {
    existing_repositories             = { curl = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/curl" }
    existing_pull_through_cache_rules = { quay = "quay.io" }
  }

  expect_failures = [
    var.existing_repositories,
    var.existing_pull_through_cache_rules,
  ]
}
