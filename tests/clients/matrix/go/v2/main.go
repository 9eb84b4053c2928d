// The AWS SDK for Go, version 2.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
)

var endpoint = os.Getenv("BREVET_ENDPOINT")

func client(keys aws.CredentialsProvider) *sts.Client {
	return sts.New(sts.Options{
		Region: os.Getenv("AWS_REGION"), Credentials: keys, EndpointResolver: sts.EndpointResolverFromURL(endpoint),
		Retryer: aws.NopRetryer{},
	})
}

func line(action string, err error) {
	result := "ok"
	var refused smithy.APIError
	if errors.As(err, &refused) {
		result = refused.ErrorCode()
	} else if err != nil {
		result = err.Error()
	}
	fmt.Printf("%s\t%s\n", action, result)
}

func identity(keys aws.CredentialsProvider) error {
	_, err := client(keys).GetCallerIdentity(context.Background(), nil)
	return err
}

func assume(keys aws.CredentialsProvider, role string) error {
	input := &sts.AssumeRoleInput{RoleArn: &role, RoleSessionName: aws.String("go-v2")}
	answer, err := client(keys).AssumeRole(context.Background(), input)
	if err != nil {
		return err
	}
	c := answer.Credentials
	return identity(credentials.NewStaticCredentialsProvider(*c.AccessKeyId, *c.SecretAccessKey, *c.SessionToken))
}

func presigned(keys aws.CredentialsProvider) error {
	signed, err := sts.NewPresignClient(client(keys)).PresignGetCallerIdentity(context.Background(), &sts.GetCallerIdentityInput{})
	if err != nil {
		return err
	}
	asked, _ := http.NewRequest(signed.Method, signed.URL, nil)
	for name, values := range signed.SignedHeader {
		asked.Header[name] = values
	}
	answer, err := http.DefaultClient.Do(asked)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, _ := io.ReadAll(answer.Body)
	if answer.StatusCode != 200 {
		return fmt.Errorf("%d: %.120s", answer.StatusCode, text)
	}
	return nil
}

func main() {
	fmt.Printf("version\t%s\n", aws.SDKVersion)
	keys := credentials.NewStaticCredentialsProvider(os.Getenv("AWS_ACCESS_KEY_ID"), os.Getenv("AWS_SECRET_ACCESS_KEY"), "")
	line("GetCallerIdentity", identity(keys))
	line("AssumeRole", assume(keys, os.Getenv("BREVET_ROLE")))
	line("AssumeRole, denied", assume(keys, os.Getenv("BREVET_DENIED_ROLE")))
	_, err := client(aws.AnonymousCredentials{}).AssumeRoleWithWebIdentity(context.Background(), &sts.AssumeRoleWithWebIdentityInput{
		RoleArn: aws.String(os.Getenv("BREVET_WEB_ROLE")), RoleSessionName: aws.String("go-v2"),
		WebIdentityToken: aws.String(os.Getenv("BREVET_WEB_TOKEN")),
	})
	line("AssumeRoleWithWebIdentity", err)
	line("GetCallerIdentity, presigned", presigned(keys))
}
