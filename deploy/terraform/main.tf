# One small machine that runs the stack of docker-compose.yml. docs/guides/run-on-kubernetes.md explains it.
#
#   terraform init
#   terraform apply -var 'allowed_sources=["203.0.113.7/32"]' -var "ssh_public_key=$(cat ~/.ssh/id_ed25519.pub)"
#   eval "$(terraform output -raw start)"

terraform {
  required_version = ">= 1.5"
  required_providers {
    hcloud = {
      source  = "hetznercloud/hcloud"
      version = "~> 1.49"
    }
  }
}

# The token is in HCLOUD_TOKEN.
provider "hcloud" {}

resource "hcloud_ssh_key" "operator" {
  name       = var.name
  public_key = var.ssh_public_key
}

# Docker publishes the ports of HAProxy and no others; the firewall limits who reaches them.
resource "hcloud_firewall" "chat" {
  name = var.name

  rule {
    description = "The chat"
    direction   = "in"
    protocol    = "tcp"
    port        = "80"
    source_ips  = var.allowed_sources
  }

  rule {
    description = "The operator"
    direction   = "in"
    protocol    = "tcp"
    port        = "22"
    source_ips  = var.operator_sources
  }
}

resource "hcloud_server" "chat" {
  name         = var.name
  image        = "debian-12"
  server_type  = var.server_type
  location     = var.location
  ssh_keys     = [hcloud_ssh_key.operator.id]
  firewall_ids = [hcloud_firewall.chat.id]

  user_data = templatefile("${path.module}/cloud-init.yaml.tftpl", {
    compose_file = file("${path.module}/../../docker-compose.yml")
    public_hosts = join(",", var.public_hosts)
    stage        = var.stage
    tag          = var.tag
  })

  # A changed compose file is copied to the machine by hand: another user_data would replace the machine and its data.
  lifecycle {
    ignore_changes = [user_data, ssh_keys]
  }
}
