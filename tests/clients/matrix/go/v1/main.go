// The AWS SDK for Go, version 1, and the proofs that Vault's and Consul's clients make with it.
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go/aws"
	"github.com/aws/aws-sdk-go/aws/awserr"
	"github.com/aws/aws-sdk-go/aws/credentials"
	"github.com/aws/aws-sdk-go/aws/session"
	"github.com/aws/aws-sdk-go/service/iam"
	"github.com/aws/aws-sdk-go/service/sts"
)

var endpoint = os.Getenv("BREVET_ENDPOINT")

func config(keys *credentials.Credentials) *session.Session {
	return session.Must(session.NewSession(&aws.Config{
		Region: aws.String(os.Getenv("AWS_REGION")), Endpoint: aws.String(endpoint), Credentials: keys,
		MaxRetries: aws.Int(0),
	}))
}

func line(action string, err error) {
	result := "ok"
	if failure, is := err.(awserr.Error); is {
		result = failure.Code()
	} else if err != nil {
		result = err.Error()
	}
	fmt.Printf("%s\t%s\n", action, result)
}

func identity(keys *credentials.Credentials) error {
	answer, err := sts.New(config(keys)).GetCallerIdentity(nil)
	if err == nil && !strings.HasPrefix(*answer.Arn, "arn:aws:") {
		return fmt.Errorf("no ARN")
	}
	return err
}

func assume(keys *credentials.Credentials, role string) error {
	answer, err := sts.New(config(keys)).AssumeRole(&sts.AssumeRoleInput{RoleArn: &role, RoleSessionName: aws.String("go-v1")})
	if err != nil {
		return err
	}
	c := answer.Credentials
	return identity(credentials.NewStaticCredentials(*c.AccessKeyId, *c.SecretAccessKey, *c.SessionToken))
}

func send(asked *http.Request) error {
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

// What `vault login -method=aws` and `consul login -type=aws-iam` send is a signed request with a header of
// the server's; the server puts the path behind its own endpoint and makes the request.
func replayed(keys *credentials.Credentials, header string) error {
	asked, _ := sts.New(config(keys)).GetCallerIdentityRequest(nil)
	asked.HTTPRequest.Header.Add(header, "server.example.com")
	if err := asked.Sign(); err != nil {
		return err
	}
	body, _ := io.ReadAll(asked.HTTPRequest.Body)
	target := fmt.Sprintf("%s/%s", endpoint, asked.HTTPRequest.URL.RequestURI())
	replay, _ := http.NewRequest("POST", target, strings.NewReader(string(body)))
	replay.Host = asked.HTTPRequest.URL.Host
	for name, values := range asked.HTTPRequest.Header {
		replay.Header[name] = values
	}
	replay.Header.Set("Accept", "application/json")
	return send(replay)
}

func presigned(keys *credentials.Credentials) error {
	asked, _ := sts.New(config(keys)).GetCallerIdentityRequest(nil)
	// As aws-iam-authenticator does.
	asked.HTTPRequest.Header.Add("x-k8s-aws-id", "c")
	url, err := asked.Presign(time.Minute)
	if err != nil {
		return err
	}
	get, _ := http.NewRequest("GET", url, nil)
	get.Header.Set("x-k8s-aws-id", "c")
	get.Header.Set("accept", "application/json")
	return send(get)
}

func main() {
	fmt.Printf("version\t%s\n", aws.SDKVersion)
	keys := credentials.NewEnvCredentials()
	line("GetCallerIdentity", identity(keys))
	line("AssumeRole", assume(keys, os.Getenv("BREVET_ROLE")))
	line("AssumeRole, denied", assume(keys, os.Getenv("BREVET_DENIED_ROLE")))
	_, err := sts.New(config(credentials.AnonymousCredentials)).AssumeRoleWithWebIdentity(&sts.AssumeRoleWithWebIdentityInput{
		RoleArn: aws.String(os.Getenv("BREVET_WEB_ROLE")), RoleSessionName: aws.String("go-v1"),
		WebIdentityToken: aws.String(os.Getenv("BREVET_WEB_TOKEN")),
	})
	line("AssumeRoleWithWebIdentity", err)
	line("GetCallerIdentity, presigned", presigned(keys))
	line("GetCallerIdentity, replayed as Vault does", replayed(keys, "X-Vault-AWS-IAM-Server-ID"))
	line("GetCallerIdentity, replayed as Consul does", replayed(keys, "X-Consul-IAM-ServerID"))
	_, err = iam.New(config(keys)).ListMFADevices(&iam.ListMFADevicesInput{UserName: aws.String("alice")})
	line("iam:ListMFADevices", err)
}
