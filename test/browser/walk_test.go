package browser

import (
	"context"

	"github.com/chromedp/chromedp"
)

// submitForm sends the form that holds the first text field of the page's main
// part and waits for the page that answers.
func submitForm(ctx context.Context) error {
	_, err := chromedp.RunResponse(ctx, chromedp.Evaluate(`document.querySelector("main form:not(.theme):not(.ask)").requestSubmit()`, nil))
	return err
}
