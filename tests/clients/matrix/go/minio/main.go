// MinIO's client for Go, which mc, restic and many others are built on.
package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"

	"github.com/minio/minio-go/v7/pkg/credentials"
)

func line(action string, keys *credentials.Credentials, err error) {
	result := "ok"
	if err == nil {
		var value credentials.Value
		if value, err = keys.Get(); err == nil && !strings.HasPrefix(value.AccessKeyID, "ASIA") {
			result = "no session"
		}
	}
	var refused credentials.ErrorResponse
	if errors.As(err, &refused) {
		result = refused.STSError.Code
	} else if err != nil {
		result = err.Error()
	}
	fmt.Printf("%s\t%.200s\n", action, strings.Join(strings.Fields(result), " "))
}

func main() {
	fmt.Printf("version\t%s\n", os.Getenv("PACKAGE_VERSION"))
	endpoint := os.Getenv("BREVET_ENDPOINT")
	assume := func(role string) (*credentials.Credentials, error) {
		return credentials.NewSTSAssumeRole(endpoint, credentials.STSAssumeRoleOptions{
			AccessKey: os.Getenv("AWS_ACCESS_KEY_ID"), SecretKey: os.Getenv("AWS_SECRET_ACCESS_KEY"),
			Location: os.Getenv("AWS_REGION"), RoleARN: role, RoleSessionName: "minio-go",
		})
	}
	keys, err := assume(os.Getenv("BREVET_ROLE"))
	line("AssumeRole", keys, err)
	keys, err = assume(os.Getenv("BREVET_DENIED_ROLE"))
	line("AssumeRole, denied", keys, err)
	keys = credentials.New(&credentials.STSWebIdentity{
		Client: http.DefaultClient, STSEndpoint: endpoint, RoleARN: os.Getenv("BREVET_WEB_ROLE"),
		GetWebIDTokenExpiry: func() (*credentials.WebIdentityToken, error) {
			return &credentials.WebIdentityToken{Token: os.Getenv("BREVET_WEB_TOKEN")}, nil
		},
	})
	line("AssumeRoleWithWebIdentity", keys, nil)
}
