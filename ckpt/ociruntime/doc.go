// Package ociruntime is an OCI runtime that stands before runc, so that Docker can create a container restored.
//
// Registered with Docker under a name, it is plain runc for everything but two commands: creating a container whose annotation
// org.qosctl.restore names a file that is there turns into `runc restore`, and starting such a container does nothing, since it runs
// already. The file is trusted only below a root-owned directory, when nobody but root can have written it. Without the file, and so
// without an agent, a container is created as by runc.
package ociruntime
