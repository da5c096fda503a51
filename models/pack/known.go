package pack

import "github.com/cloister-os/cloister/models"

// starterManifest is the SHA-256 of the manifest of the pack that
// packaging/starter builds. That program prints it, and its test compares.
const starterManifest models.Digest = "0a138de14f8bb04366e0fb35465a81dd4820f49bfaf34311ff0e641bcf9be2a8"
